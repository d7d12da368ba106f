"""One process = one revision of one model on one device, behind a continuous-batching engine."""
