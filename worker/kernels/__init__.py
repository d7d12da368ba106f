"""Operators of our own for ONNX Runtime, in C (`src/`): products with block-quantised weights, and attention in place."""
