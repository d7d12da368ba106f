"""What a model weighs in our engine: bytes of the weights in the forms that it holds, and of one position's keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

__all__ = ["kv_bytes_per_token", "weights_bytes"]

_FLOAT_BYTES = 4


def weights_bytes(graph: Path, fingerprint: str) -> int:
    """Stored weights, 8-bit integers made of them, or both, as the fingerprint says."""
    model = onnx.load(str(graph), load_external_data=False)
    stored = sum(
        int(entry.value)
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "length"
    )
    blocks = int8 = 0
    for node in model.graph.node:
        if node.op_type == "MatMulNBits":
            of = {one.name: one.i for one in node.attribute}
            values = of["K"] * of["N"]
            int8 += values + of["N"] * _FLOAT_BYTES
            blocks += values * of["bits"] // 8 + values // of["block_size"] * _FLOAT_BYTES
    if "-as-int8" in fingerprint:
        return stored - blocks + int8
    return stored + int8 if "+prefill-int8" in fingerprint else stored


def kv_bytes_per_token(model: Any) -> int:
    """Keys and values of one position in all layers, float32; `model` is `genai_config.json`'s."""
    decoder = model.decoder
    return int(
        2
        * decoder.num_hidden_layers
        * decoder.num_key_value_heads
        * decoder.head_size
        * _FLOAT_BYTES
    )
