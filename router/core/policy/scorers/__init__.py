"""One scorer a file: a pure function of the request's view and the endpoints, from 0 (worst) to 1 (best)."""
