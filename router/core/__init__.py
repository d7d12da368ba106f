"""Choosing, admitting, retrying. Pure asyncio and standard library: no gRPC, no etcd, no telemetry."""
