"""The Open Inference Protocol (KServe v2), over gRPC and HTTP: text in, text out, for clients that exist already."""
