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

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["RowInt8", "dequantized", "largest_block", "with_row_int8"]

_SCALE_MIN: Final = 1e-20
"""Of a position that is all zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowInt8:
    """A graph and the weights that it does not carry itself."""

    model: onnx.ModelProto
    files: Mapping[str, npt.NDArray[np.int8]]
    """Weights [K, N] by the name of the file in which the graph says they are: there is no such file, the session is
    handed them in memory (`SessionOptions.add_external_initializers_from_files_in_memory`) and copies them."""


def with_row_int8(model: onnx.ModelProto, graph_file: Path, *, keep: Iterable[str] = ()) -> RowInt8:
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
    return RowInt8(model=edited, files=editor.finish())


def largest_block(model: onnx.ModelProto) -> int:
    """Of the block-quantised weights, the most values that share a scale; 0 without any."""
    return max(
        (
            attribute.i
            for node in model.graph.node
            if node.op_type == "MatMulNBits"
            for attribute in node.attribute
            if attribute.name == "block_size"
        ),
        default=0,
    )


def dequantized(
    node: onnx.NodeProto, tensors: Mapping[str, npt.NDArray[Any]]
) -> npt.NDArray[np.float32]:
    """The weights [N, K] of a MatMulNBits node, whose inputs are in `tensors`."""
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    size, bits, block = attributes["K"], attributes.get("bits", 4), attributes["block_size"]
    packed, scales = tensors[node.input[1]], tensors[node.input[2]]
    num_blocks = -(-size // block)
    num_outputs = packed.shape[0]
    values = _unpacked(packed.reshape(num_outputs, num_blocks, -1), bits).astype(np.float32)
    zero: npt.NDArray[np.float32] | float = float(1 << (bits - 1))
    if len(node.input) > 3 and node.input[3]:
        zeros = tensors[node.input[3]]
        if zeros.dtype == np.uint8:
            zeros = _unpacked(zeros.reshape(num_outputs, -1), bits)[:, :num_blocks]
        zero = zeros.reshape(num_outputs, num_blocks, 1).astype(np.float32)
    values -= zero
    values *= scales.reshape(num_outputs, num_blocks, 1).astype(np.float32)
    return values.reshape(num_outputs, -1)[:, :size]


def _unpacked(packed: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Numbers of `bits` bits along the last axis, the lowest bits of a byte first."""
    parts = [(packed >> shift) & ((1 << bits) - 1) for shift in range(0, 8, bits)]
    return np.stack(parts, axis=-1).reshape(*packed.shape[:-1], -1)


@final
class _Editor:
    """One graph while it is edited."""

    def __init__(self, graph: onnx.GraphProto, graph_file: Path) -> None:
        self._graph = graph
        self._file = graph_file
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._rounded: dict[str, tuple[str, str]] = {}
        """Input of a product → its integers and its scales: products of one input share them."""
        self._dropped: set[str] = set()
        self._weights: dict[str, npt.NDArray[np.int8]] = {}
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
        inputs = {name: self._read(name) for name in node.input[1:4] if name}
        weights = dequantized(node, inputs)
        self._dropped.update(inputs)
        scales = np.maximum(np.abs(weights).max(axis=1), _SCALE_MIN) / np.float32(127)
        name = f"{y}/int8"
        self._weights[name] = np.ascontiguousarray(
            np.rint(weights / scales[:, None]).astype(np.int8).T
        )
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

    def finish(self) -> dict[str, npt.NDArray[np.int8]]:
        """Declares the new weights, drops those that nobody reads any more; returns file → weights."""
        read = {name for node in self._graph.node for name in node.input}
        tensors = [
            onnx.TensorProto.FromString(tensor.SerializeToString())
            for tensor in self._graph.initializer
            if tensor.name in read or tensor.name not in self._dropped
        ]
        files = {}
        for index, (name, array) in enumerate(self._weights.items()):
            file = f"lepton-int8-{index}"
            tensors.append(_declared(name, array, file))
            files[file] = array
        del self._graph.initializer[:]
        self._graph.initializer.extend(tensors)
        return files

    def _read(self, name: str) -> npt.NDArray[Any]:
        """A tensor from the graph or from the file that it names, which the session of the exported form has read.

        Not by `onnx`, which refuses files with several hard links, as package managers make them.
        """
        tensor = self._tensors[name]
        if tensor.data_location != TensorProto.EXTERNAL:
            inside: npt.NDArray[Any] = numpy_helper.to_array(tensor)
            return inside
        place = {entry.key: entry.value for entry in tensor.external_data}
        shape = tuple(tensor.dims)
        return np.fromfile(
            self._file.parent / place["location"],
            dtype=helper.tensor_dtype_to_np_dtype(tensor.data_type),
            count=int(np.prod(shape)),
            offset=int(place.get("offset", 0)),
        ).reshape(shape)


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


def _declared(name: str, array: npt.NDArray[np.int8], file: str) -> onnx.TensorProto:
    tensor = TensorProto(
        name=name,
        data_type=TensorProto.INT8,
        dims=array.shape,
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (("location", file), ("offset", "0"), ("length", str(array.nbytes))):
        tensor.external_data.add(key=key, value=value)
    return tensor
