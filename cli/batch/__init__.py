"""`lepton run-batch`: a file of requests, answered through the cluster's REST door."""
