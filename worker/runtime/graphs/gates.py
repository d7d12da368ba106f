"""Gated units in an exported graph: silu(x · G) · (x · U), two products and three operators that one product can be.

Source: Shazeer, "GLU Variants Improve Transformer", 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import onnx
from onnx import helper

__all__ = ["Gate", "find_gates"]

_OUTPUTS: Final = 16
"""Gates and others come by turns in groups of so many: a rest would mix them."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One gated unit."""

    gate: onnx.NodeProto
    """MatMulNBits, whose outputs go through silu."""
    other: onnx.NodeProto
    """MatMulNBits of the same input and form."""
    product: onnx.NodeProto
    """The last node: its output is the unit's."""
    inside: tuple[onnx.NodeProto, ...]
    """The others; nobody else reads what they compute."""


def find_gates(graph: onnx.GraphProto) -> list[Gate]:
    """Those that are exactly as the onnxruntime-genai builder writes them."""
    maker = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = (
        _gate_at(node, maker, readers)
        for node in graph.node
        if node.op_type == "Mul" and all(name in maker for name in node.input)
    )
    return [gate for gate in found if gate is not None]


def _gate_at(
    product: onnx.NodeProto,
    maker: dict[str, onnx.NodeProto],
    readers: dict[str, list[onnx.NodeProto]],
) -> Gate | None:
    silu, other = (maker[name] for name in product.input)
    if silu.op_type != "Mul":
        silu, other = other, silu
    if silu.op_type != "Mul" or not all(name in maker for name in silu.input):
        return None
    gate, sigmoid = (maker[name] for name in silu.input)
    if sigmoid.op_type != "Sigmoid":
        gate, sigmoid = sigmoid, gate
    if sigmoid.op_type != "Sigmoid" or list(sigmoid.input) != list(gate.output):
        return None
    if not _alike(gate, other):
        return None
    inside = (gate, other, sigmoid, silu)
    allowed = {id(node) for node in (*inside, product)}
    if any(id(node) not in allowed for part in inside for node in readers[part.output[0]]):
        return None
    return Gate(gate, other, product, inside)


def _alike(gate: onnx.NodeProto, other: onnx.NodeProto) -> bool:
    """Two products of one input in one form, with the middle as their zero and without bias."""
    forms = [
        {item.name: helper.get_attribute_value(item) for item in node.attribute}
        for node in (gate, other)
    ]
    return (
        gate.op_type == other.op_type == "MatMulNBits"
        and gate.input[0] == other.input[0]
        and forms[0] == forms[1]
        and forms[0].get("N", 0) % _OUTPUTS == 0
        and not any(name for node in (gate, other) for name in node.input[3:])
    )
