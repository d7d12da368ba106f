"""Operators of our own for ONNX Runtime, in C (`src/`): block-quantised products, attention in place, the largest."""
