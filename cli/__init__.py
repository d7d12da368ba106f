"""The command `lepton`. Imports common, agent and the generated client; never router, worker or a runtime."""
