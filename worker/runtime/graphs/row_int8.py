"""Block-quantised products → products of 8-bit integers: the form of the weights for many positions at once.

ONNX Runtime's kernel for MatMulNBits is made for few positions: it reads little memory, and computes slowly. For a
prompt the opposite counts. So the graph for prompts multiplies integers, several times faster on processors with VNNI:

    x [.., K] ─ s = max|x| / 127 per position ─ round(x / s) + 128 ─ uint8 ┐
                                                                          MatMulIntegerToFloat ── · s ── y [.., N]
    W [N, K] of MatMulNBits ─ t = max|W| / 127 per output ─ int8 [K, N] ───┘

Sums of integers are exact in any order, and every position has a scale of its own: what a position gets does not depend
on how many others there are, to the bit. Rounding W again costs at most 1/254 of an output's largest weight, less than
the rounding to 4 bits did before.

Sources: ONNX Runtime's contrib operators MatMulNBits and MatMulIntegerToFloat; per-token activation scales as in Yao et
al., "ZeroQuant", 2022.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from worker.runtime.graphs.weights import RewrittenGraph, Weights

__all__ = ["with_row_int8"]

_SCALE_MIN: Final = 1e-20
"""Of a position that is all zero."""


def with_row_int8(
    model: onnx.ModelProto, graph_file: Path, *, keep: Iterable[str] = ()
) -> RewrittenGraph:
    """A copy in which every MatMulNBits but those that make one of `keep` multiplies integers.

    `graph_file` is where the model was read from: tensors outside of it are found beside it.
    """
    edited = onnx.ModelProto()
    edited.CopyFrom(model)
    kept = frozenset(keep)
    editor = _Editor(edited.graph, graph_file)
    nodes: list[onnx.NodeProto] = []
    for node in edited.graph.node:
        if node.op_type == "MatMulNBits" and not kept & set(node.output):
            nodes += editor.product(node)
        else:
            nodes.append(node)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del edited.graph.node[:]
    edited.graph.node.extend(nodes)
    return RewrittenGraph(model=edited, files=editor.weights.finish())


@final
class _Editor:
    """One graph while it is edited."""

    def __init__(self, graph: onnx.GraphProto, graph_file: Path) -> None:
        self._graph = graph
        self.weights = Weights(graph, graph_file)
        self._rounded: dict[str, tuple[str, str]] = {}
        """Input of a product → its integers and its scales: products of one input share them."""
        for name, value in (
            ("lepton.last_axis", np.array([-1], np.int64)),
            ("lepton.inverse_127", np.array(1 / 127, np.float32)),
            ("lepton.scale_min", np.array(_SCALE_MIN, np.float32)),
            ("lepton.one", np.array(1, np.float32)),
            ("lepton.zero_point", np.array(128, np.uint8)),
        ):
            graph.initializer.append(numpy_helper.from_array(value, name))

    def product(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The nodes that take the place of one MatMulNBits."""
        x, y = node.input[0], node.output[0]
        weights = self.weights.of(node).dequantized()
        scales = np.maximum(np.abs(weights).max(axis=1), _SCALE_MIN) / np.float32(127)
        integers_of = np.rint(weights / scales[:, None]).astype(np.int8)
        name = self.weights.add(f"{y}/int8", np.ascontiguousarray(integers_of.T))
        self._graph.initializer.append(numpy_helper.from_array(scales, f"{y}/scales"))

        made: list[onnx.NodeProto] = []
        if x not in self._rounded:
            made = _rounding(x)
            self._rounded[x] = (f"{x}/integers", f"{x}/scale")
        integers, scale = self._rounded[x]
        product, bias = f"{y}/product", node.input[5] if len(node.input) > 5 else ""
        made.append(
            helper.make_node(
                "MatMulIntegerToFloat",
                [integers, name, "lepton.one", f"{y}/scales", "lepton.zero_point"],
                [product],
                name=f"{node.name}/int8",
                domain="com.microsoft",
            )
        )
        scaled = f"{y}/scaled" if bias else y
        made.append(helper.make_node("Mul", [product, scale], [scaled]))
        if bias:
            made.append(helper.make_node("Add", [scaled, bias], [y]))
        return made


def _rounding(x: str) -> list[onnx.NodeProto]:
    """Each position of x to integers around 128, and its scale [.., 1]."""
    return [
        helper.make_node("Abs", [x], [f"{x}/absolute"]),
        helper.make_node(
            "ReduceMax", [f"{x}/absolute", "lepton.last_axis"], [f"{x}/largest"], keepdims=1
        ),
        helper.make_node("Mul", [f"{x}/largest", "lepton.inverse_127"], [f"{x}/scale_or_zero"]),
        helper.make_node("Max", [f"{x}/scale_or_zero", "lepton.scale_min"], [f"{x}/scale"]),
        helper.make_node("Div", [x, f"{x}/scale"], [f"{x}/in_scale"]),
        helper.make_node(
            "QuantizeLinear",
            [f"{x}/in_scale", "lepton.one", "lepton.zero_point"],
            [f"{x}/integers"],
        ),
    ]
