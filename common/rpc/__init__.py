"""gRPC plumbing without policy: servers, channels, the status table, interceptors."""
