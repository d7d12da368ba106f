"""What a model weighs in our engine: bytes of the weights in the forms that it holds, and of one position's keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnx

__all__ = ["kv_bytes_per_token", "looked_up_bytes", "weights_bytes"]

_FLOAT_BYTES = 4
_KV_BYTES = {"fp32": (4, 0), "fp16": (2, 0), "int8": (1, _FLOAT_BYTES)}
"""Of a number, and of the scale of a position of a head."""


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


def looked_up_bytes(graph: Path) -> int:
    """Weights that the graph reads only single rows of."""
    model = onnx.load(str(graph), load_external_data=False)
    looked_up = {node.input[0] for node in model.graph.node if node.op_type == "Gather"}
    whole = {
        name
        for node in model.graph.node
        for name in (node.input[1:] if node.op_type == "Gather" else node.input)
    }
    return sum(
        int(entry.value)
        for tensor in model.graph.initializer
        if tensor.name in looked_up - whole
        for entry in tensor.external_data
        if entry.key == "length"
    )


def kv_bytes_per_token(model: Any, fingerprint: str) -> int:
    """Keys and values of one position in all layers, kept as the fingerprint says; `model` is `genai_config.json`'s."""
    decoder = model.decoder
    name = re.search(r"-kv-(\w+)", fingerprint)
    number, scale = _KV_BYTES[name.group(1) if name else "fp32"]
    heads = 2 * decoder.num_hidden_layers * decoder.num_key_value_heads
    return int(heads * (decoder.head_size * number + scale))
