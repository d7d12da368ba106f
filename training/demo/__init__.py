"""The demo chat model: text that we generate, a small Llama, and its export to ONNX."""
