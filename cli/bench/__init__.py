"""A small load on a running cluster. `lepton bench` and `loadtest/` share it."""
