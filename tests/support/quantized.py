"""Tiny models of tests/goldens with weights in blocks of any size: what `tests/goldens` does not hold.

Symmetric int4 as the onnxruntime-genai builder writes it: w ≈ (q − 8) · scale, two numbers per byte, the lower half
first, blocks along K, the last one padded with zeros.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from tests.support.tiny_models import copy_model

__all__ = ["in_blocks", "packed_int4"]


@cache
def in_blocks(source: Path, block: int) -> Path:
    """A copy of an fp32 model whose products are MatMulNBits with blocks of `block`; gone with the test process."""
    scratch = tempfile.TemporaryDirectory(prefix="lepton-blocks-")
    _kept.append(scratch)
    folder = copy_model(source, Path(scratch.name) / f"{source.parent.name}-int4-block{block}")
    file = folder / "model.onnx"
    model = onnx.load(file)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [_product(node, weights, model.graph, block) for node in model.graph.node]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    for tensor in [t for t in model.graph.initializer if t.name not in used]:
        model.graph.initializer.remove(tensor)
    (folder / "model.onnx.data").unlink()
    onnx.save(model, file, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    return folder


_kept: list[tempfile.TemporaryDirectory[str]] = []


def _product(
    node: onnx.NodeProto, weights: dict[str, onnx.TensorProto], graph: onnx.GraphProto, block: int
) -> onnx.NodeProto:
    if node.op_type != "MatMul" or node.input[1] not in weights:
        return node
    matrix = numpy_helper.to_array(weights[node.input[1]]).T
    packed, scales = packed_int4(matrix, block)
    names = [f"{node.input[1]}_Q4", f"{node.input[1]}_scales"]
    graph.initializer.extend(
        numpy_helper.from_array(array, name)
        for name, array in zip(names, (packed, scales), strict=True)
    )
    return helper.make_node(
        "MatMulNBits",
        [node.input[0], *names],
        list(node.output),
        name=f"{node.name}_Q4",
        domain="com.microsoft",
        K=matrix.shape[1],
        N=matrix.shape[0],
        bits=4,
        block_size=block,
        accuracy_level=4,
    )


def packed_int4(
    matrix: npt.NDArray[Any], block: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Weights [N, K] → [N, blocks, block / 2] and scales [N, blocks]."""
    outputs, size = matrix.shape
    blocks = -(-size // block)
    padded = np.zeros((outputs, blocks * block), np.float32)
    padded[:, :size] = matrix
    cut = padded.reshape(outputs, blocks, block)
    scales = np.maximum(np.abs(cut).max(axis=2) / 7, 1e-8).astype(np.float32)
    numbers = (np.rint(cut / scales[..., None]).clip(-8, 7) + 8).astype(np.uint8)
    return numbers[..., 0::2] | numbers[..., 1::2] << 4, scales
