"""Operators of our own for ONNX Runtime, in C (`src/`): block-quantised products, and attention in place."""
