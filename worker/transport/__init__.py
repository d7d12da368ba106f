"""The worker's doors: gRPC in, domain values inside, gRPC out."""
