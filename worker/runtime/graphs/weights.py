"""Weights of an exported graph: read from where they are, and handed to a session from memory in another form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["BlockWeights", "RewrittenGraph", "Weights", "block_weights", "largest_block"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RewrittenGraph:
    """A graph and the weights that it does not carry itself."""

    model: onnx.ModelProto
    files: Mapping[str, npt.NDArray[Any]]
    """Arrays by the name of the file in which the graph says they are: there is no such file, the session is handed
    them in memory (`SessionOptions.add_external_initializers_from_files_in_memory`) and copies them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockWeights:
    """W [N, K] of a MatMulNBits node: W = scale · (value − zero), scale and zero for each block along K."""

    values: npt.NDArray[np.uint8]
    """[N, K], 0 … 2^bits − 1."""
    scales: npt.NDArray[np.float32]
    """[N, blocks]"""
    zeros: npt.NDArray[np.float32] | None
    """[N, blocks]; None: the middle, 2^(bits − 1), everywhere."""
    bits: int
    block: int

    def dequantized(self) -> npt.NDArray[np.float32]:
        """W [N, K]."""
        size = self.values.shape[1]
        zeros: npt.NDArray[np.float32] | float = float(1 << (self.bits - 1))
        if self.zeros is not None:
            zeros = np.repeat(self.zeros, self.block, axis=1)[:, :size]
        weights = self.values.astype(np.float32)
        weights -= zeros
        weights *= np.repeat(self.scales, self.block, axis=1)[:, :size]
        return weights


def block_weights(node: onnx.NodeProto, tensors: Mapping[str, npt.NDArray[Any]]) -> BlockWeights:
    """The weights of a MatMulNBits node, whose inputs are in `tensors`. Raises ValueError when a shape does not fit."""
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    size, num_outputs, block = attributes["K"], attributes["N"], attributes["block_size"]
    bits = attributes.get("bits", 4)
    num_blocks = -(-size // block)
    packed = tensors[node.input[1]].reshape(num_outputs, num_blocks * block * bits // 8)
    zeros = None
    if len(node.input) > 3 and node.input[3]:
        zeros = tensors[node.input[3]]
        if zeros.dtype == np.uint8:
            zeros = _unpacked(zeros.reshape(num_outputs, -1), bits)[:, :num_blocks]
        zeros = zeros.reshape(num_outputs, num_blocks).astype(np.float32)
    return BlockWeights(
        values=_unpacked(packed, bits)[:, :size],
        scales=tensors[node.input[2]].reshape(num_outputs, num_blocks).astype(np.float32),
        zeros=zeros,
        bits=bits,
        block=block,
    )


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


def _unpacked(packed: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Numbers of `bits` bits along the last axis, the lowest bits of a byte first."""
    if bits == 8:
        return packed
    parts = [(packed >> shift) & ((1 << bits) - 1) for shift in range(0, 8, bits)]
    return np.stack(parts, axis=-1).reshape(*packed.shape[:-1], -1)


@final
class Weights:
    """The initializers of one graph while nodes that read them are replaced."""

    def __init__(self, graph: onnx.GraphProto, graph_file: Path) -> None:
        self._graph = graph
        self._folder = graph_file.parent
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._replaced: set[str] = set()
        self._made: dict[str, npt.NDArray[Any]] = {}

    def of(self, node: onnx.NodeProto) -> BlockWeights:
        """Those of a MatMulNBits node that will be replaced."""
        names = [name for name in node.input[1:4] if name]
        self._replaced.update(names)
        return block_weights(node, {name: self._read(name) for name in names})

    def add(self, name: str, array: npt.NDArray[Any]) -> str:
        """A new initializer; its name again."""
        self._made[name] = array
        return name

    def finish(self) -> dict[str, npt.NDArray[Any]]:
        """Declares what is new, drops what was replaced and nobody reads any more; returns file → array."""
        read = {name for node in self._graph.node for name in node.input}
        tensors = [
            TensorProto.FromString(tensor.SerializeToString())
            for tensor in self._graph.initializer
            if tensor.name in read or tensor.name not in self._replaced
        ]
        files = {}
        for index, (name, array) in enumerate(self._made.items()):
            file = f"lepton-{index}"
            tensors.append(_declared(name, array, file))
            files[file] = array
        del self._graph.initializer[:]
        self._graph.initializer.extend(tensors)
        return files

    def _read(self, name: str) -> npt.NDArray[Any]:
        """From the graph or from the file that it names.

        Not by `onnx`, which refuses files with several hard links, as package managers make them.
        """
        tensor = self._tensors[name]
        if tensor.data_location != TensorProto.EXTERNAL:
            inside: npt.NDArray[Any] = numpy_helper.to_array(tensor)
            return inside
        place = {entry.key: entry.value for entry in tensor.external_data}
        shape = tuple(tensor.dims)
        return np.fromfile(
            self._folder / place["location"],
            dtype=helper.tensor_dtype_to_np_dtype(tensor.data_type),
            count=int(np.prod(shape)),
            offset=int(place.get("offset", 0)),
        ).reshape(shape)


def _declared(name: str, array: npt.NDArray[Any], file: str) -> TensorProto:
    tensor = TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
        dims=array.shape,
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (("location", file), ("offset", "0"), ("length", str(array.nbytes))):
        tensor.external_data.add(key=key, value=value)
    return tensor
