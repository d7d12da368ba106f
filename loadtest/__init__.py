"""Load on a cluster, and what it measured. Shares its core with `lepton bench` (`cli.bench`)."""
