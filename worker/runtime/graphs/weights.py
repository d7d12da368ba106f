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
        """W [N, K]. Raises ValueError where it is beyond float32."""
        size = self.values.shape[1]
        zeros: npt.NDArray[np.float32] | float = float(1 << (self.bits - 1))
        if self.zeros is not None:
            zeros = np.repeat(self.zeros, self.block, axis=1)[:, :size]
        weights = self.values.astype(np.float32)
        weights -= zeros
        with np.errstate(over="ignore"):
            weights *= np.repeat(self.scales, self.block, axis=1)[:, :size]
        if not np.isfinite(weights).all():
            raise ValueError("weights are not finite")
        return weights


def block_weights(node: onnx.NodeProto, tensors: Mapping[str, npt.NDArray[Any]]) -> BlockWeights:
    """The weights of a MatMulNBits node, whose inputs are in `tensors`.

    Raises ValueError when the node is not one that ONNX Runtime takes, or a tensor not what the node says.
    """
    size, num_outputs, bits, block = _sizes(node)
    num_blocks, blob = -(-size // block), block * bits // 8
    packed, scales = tensors[node.input[1]], tensors[node.input[2]]
    _check(node, packed, "B", np.uint8, num_outputs * num_blocks * blob)
    if packed.shape != (num_outputs, num_blocks, blob):
        raise ValueError(f"{node.name}: B has the shape {packed.shape}")
    _check(node, scales, "scales", np.floating, num_outputs * num_blocks)
    if not np.isfinite(scales).all():
        raise ValueError(f"{node.name}: scales are not finite")
    zeros = None
    if len(node.input) > 3 and node.input[3]:
        zeros = _zeros(node, tensors[node.input[3]], num_outputs, num_blocks, bits)
    return BlockWeights(
        values=_unpacked(packed.reshape(num_outputs, -1), bits)[:, :size],
        scales=scales.reshape(num_outputs, num_blocks).astype(np.float32),
        zeros=zeros,
        bits=bits,
        block=block,
    )


def _zeros(
    node: onnx.NodeProto, zeros: npt.NDArray[Any], num_outputs: int, num_blocks: int, bits: int
) -> npt.NDArray[np.float32]:
    if zeros.dtype == np.uint8:
        _check(node, zeros, "zero_points", np.uint8, num_outputs * -(-num_blocks * bits // 8))
        zeros = _unpacked(zeros.reshape(num_outputs, -1), bits)[:, :num_blocks]
    else:
        _check(node, zeros, "zero_points", np.floating, num_outputs * num_blocks)
    if not np.isfinite(zeros).all():
        raise ValueError(f"{node.name}: zero points are not finite")
    return zeros.reshape(num_outputs, num_blocks).astype(np.float32)


def _sizes(node: onnx.NodeProto) -> tuple[int, int, int, int]:
    """K, N, bits and block of a product. Raises ValueError for what ONNX Runtime would refuse, or we do not follow."""
    found = {item.name: item.i for item in node.attribute}
    size, outputs = found.get("K", 0), found.get("N", 0)
    bits, block = found.get("bits", 4), found.get("block_size", 0)
    if min(size, outputs) < 1 or bits not in (2, 4, 8) or block < 16 or block & (block - 1):
        raise ValueError(f"{node.name}: K {size}, N {outputs}, {bits} bits, blocks of {block}")
    if len(node.input) < 3 or not all(node.input[1:3]):
        raise ValueError(f"{node.name}: weights or scales are missing")
    if len(node.input) > 4 and node.input[4]:
        raise ValueError(f"{node.name}: groups in an order of their own (g_idx) are not supported")
    return size, outputs, bits, block


def _check(
    node: onnx.NodeProto, array: npt.NDArray[Any], name: str, kind: type[np.generic], num: int
) -> None:
    """Raises ValueError unless `array` has `num` numbers of that kind."""
    if not np.issubdtype(array.dtype, kind) or array.size != num:
        raise ValueError(
            f"{node.name}: {name} is {array.dtype} {array.shape}, not {num} {kind.__name__}"
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
        tensor = self._tensors.get(name)
        if tensor is None:
            raise ValueError(f"{name} is not stored in the model")
        if tensor.data_location != TensorProto.EXTERNAL:
            inside: npt.NDArray[Any] = numpy_helper.to_array(tensor)
            return inside
        place = {entry.key: entry.value for entry in tensor.external_data}
        shape, location = tuple(tensor.dims), place.get("location", "")
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        if location in {"", ".", ".."} or "/" in location:
            raise ValueError(f"{name} is in {location!r}, which is no file beside the model")
        num_bytes = int(np.prod(shape)) * dtype.itemsize
        if min(shape, default=0) < 0 or int(place.get("length", num_bytes)) != num_bytes:
            raise ValueError(f"{name} has the shape {shape} and {place.get('length')} bytes")
        offset, count = int(place.get("offset", 0)), int(np.prod(shape))
        found = np.fromfile(self._folder / location, dtype=dtype, count=count, offset=offset)
        if found.size != count:
            raise ValueError(f"{location} is cut off: {name} ends at byte {offset + num_bytes}")
        return found.reshape(shape)


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
