"""A cluster behind gRPC, as the doors see it."""
