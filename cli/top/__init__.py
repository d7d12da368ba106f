"""`lepton top`: a cluster, live."""
