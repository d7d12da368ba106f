"""Tied embeddings after quantising: the table is read out of the quantised output matrix instead of being kept twice.

    W ─ Transpose ─ Gather(ids) ─ x        becomes        Q ─ Reshape ─ GatherBlockQuantized(ids, scales) ─ Slice ─ x
    W ─ MatMul ─ logits                                   Q ─ MatMulNBits ─ logits

Q [V, blocks, bytes] holds the rows of the table, packed two to a byte and padded to whole blocks.
Source: ONNX Runtime's contrib operator GatherBlockQuantized.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["share_embedding"]


def share_embedding(graph: onnx.GraphProto) -> None:
    """Edits `graph` where a table is the transpose of a matrix that was quantised to 4 bits; else leaves it alone."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    maker = {name: node for node in graph.node for name in node.output}
    for lookup in [node for node in graph.node if node.op_type == "Gather"]:
        transpose = maker.get(lookup.input[0])
        if transpose is None or transpose.op_type != "Transpose":
            continue
        matrix = tensors.get(transpose.input[0])
        product = _product_of(graph, matrix.name) if matrix is not None else None
        if matrix is None or product is None:
            continue
        _replace(graph, lookup, _lookup(graph, tensors, lookup, product))
        if not any(transpose.output[0] in node.input for node in graph.node):
            graph.node.remove(transpose)
        if not any(matrix.name in node.input for node in graph.node):
            graph.initializer.remove(matrix)


def _product_of(graph: onnx.GraphProto, matrix: str) -> onnx.NodeProto | None:
    """The MatMulNBits that the quantiser made of a product with `matrix`."""
    for node in graph.node:
        if node.op_type == "MatMulNBits" and node.input[1].startswith(f"{matrix}_Q"):
            return node
    return None


def _lookup(
    graph: onnx.GraphProto,
    tensors: dict[str, onnx.TensorProto],
    lookup: onnx.NodeProto,
    product: onnx.NodeProto,
) -> list[onnx.NodeProto]:
    attributes: dict[str, Any] = {
        item.name: helper.get_attribute_value(item) for item in product.attribute
    }
    packed, scales, *zero_points = product.input[1:4]
    num_rows, num_blocks, num_bytes = tensors[packed].dims
    size, block = attributes["K"], attributes["block_size"]
    name, out = lookup.name or "/lepton/embedding", lookup.output[0]
    rows, padded = f"{name}/rows", f"{name}/padded"
    is_whole = num_blocks * block == size

    def constant(what: str, value: list[int]) -> str:
        tensor = numpy_helper.from_array(np.array(value, np.int64), f"{name}/{what}")
        graph.initializer.append(tensor)
        return tensor.name

    nodes = [
        helper.make_node(
            "Reshape",
            [packed, constant("shape", [num_rows, num_blocks * num_bytes])],
            [rows],
            name=f"{name}/Reshape",
        ),
        helper.make_node(
            "GatherBlockQuantized",
            [rows, lookup.input[1], scales, *zero_points],
            [out if is_whole else padded],
            name=f"{name}/GatherBlockQuantized",
            domain="com.microsoft",
            bits=attributes["bits"],
            block_size=block,
            gather_axis=0,
            quantize_axis=1,
        ),
    ]
    if not is_whole:
        ends = [constant("start", [0]), constant("end", [size]), constant("axis", [-1])]
        nodes.append(helper.make_node("Slice", [padded, *ends], [out], name=f"{name}/Slice"))
    return nodes


def _replace(graph: onnx.GraphProto, old: onnx.NodeProto, new: list[onnx.NodeProto]) -> None:
    """Nodes keep an order in which they can be computed."""
    position = list(graph.node).index(old)
    graph.node.remove(old)
    for offset, node in enumerate(new):
        graph.node.insert(position + offset, node)
