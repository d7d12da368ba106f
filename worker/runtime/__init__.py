"""Model folder → tokens: the only importer of ONNX Runtime, tokenizers and jinja2."""
