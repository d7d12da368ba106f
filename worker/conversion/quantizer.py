"""An fp32 graph → the same graph with weights of 4 or 8 bits, by onnxruntime's own quantiser; no PyTorch.

Products with constant matrices become MatMulNBits. An embedding table that is the transposed output matrix (tied
embeddings) is read out of the 4-bit matrix (`worker.conversion.tied`); every other table stays as it is.

Source: onnxruntime.quantization.matmul_nbits_quantizer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx

from common.errors import Conflict, Reason
from worker.conversion.tied import share_embedding
from worker.runtime.artifacts import read_artifact

__all__ = ["Rounding", "quantize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """How weights are rounded."""

    bits: int
    """4 or 8."""
    block_size: int
    """Values along the inputs of an output that share a scale; the last block may be short."""
    algorithm: str
    """default: the largest value of a block decides its scale. rtn: the same without that value's sign. k_quant: scale
    and zero point by search for the smallest error, as in llama.cpp's K quants."""
    accuracy_level: int
    """Of MatMulNBits: 4 computes with 8-bit integers where the processor can."""


def quantize(folder: Path, out: Path, rounding: Rounding) -> dict[str, str]:
    """Writes model.onnx and its data from the served fp32 `folder` to `out`; returns the packages that did it.

    Raises `Conflict(TOOL_MISSING)` without onnx-ir, `Conflict(SETTING_INVALID)` for blocks that the algorithm cannot
    pack, `BadModel` for a folder that cannot be read.
    """
    library = _library()
    graph = read_artifact(folder).graph
    model = onnx.load(graph)
    _check_blocks(model.graph, rounding)
    quantizer = library.MatMulNBitsQuantizer(
        model,
        bits=rounding.bits,
        block_size=rounding.block_size,
        is_symmetric=True,
        accuracy_level=rounding.accuracy_level,
        algo_config=_config(library, model.graph, rounding),
    )
    quantizer.process()
    rounded: onnx.ModelProto = quantizer.model.model
    if rounding.bits == 4:
        share_embedding(rounded.graph)
    out.mkdir(parents=True, exist_ok=True)
    onnx.save(
        rounded,
        out / graph.name,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=f"{graph.name}.data",
    )
    return {name: version(name) for name in ("onnx", "onnx-ir", "onnxruntime")}


def _library() -> ModuleType:
    try:
        from onnxruntime.quantization import matmul_nbits_quantizer
    except ModuleNotFoundError as error:
        raise Conflict(
            f"quantising needs the package {(error.name or '?').replace('_', '-')}: install Lepton with its extra "
            "`quantize` (lepton[cpu,quantize])",
            reason=Reason.TOOL_MISSING,
        ) from error
    logging.getLogger(matmul_nbits_quantizer.__name__).setLevel(logging.WARNING)
    found: ModuleType = matmul_nbits_quantizer
    return found


def _config(library: ModuleType, graph: onnx.GraphProto, rounding: Rounding) -> Any:
    """None for the quantiser's own algorithm; the others take their number of bits per node."""
    if rounding.algorithm == "default":
        return None
    bits = {node.name: {"bits": rounding.bits} for node, _ in _products(graph)}
    if rounding.algorithm == "rtn":
        return library.RTNWeightOnlyQuantConfig(customized_weight_config=bits)
    return library.KQuantWeightOnlyQuantConfig(customized_weight_config=bits)


def _products(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, onnx.TensorProto]]:
    """Each product with a constant matrix, and that matrix [K, N]."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if (
            node.op_type == "MatMul"
            and len(tensors[node.input[1]].dims if node.input[1] in tensors else ()) == 2
        ):
            yield node, tensors[node.input[1]]


def _check_blocks(graph: onnx.GraphProto, rounding: Rounding) -> None:
    """The library packs the 4-bit zero points of k_quant in pairs, across the outputs when a row has an odd number."""
    if rounding.algorithm != "k_quant" or rounding.bits != 4:
        return
    for _, matrix in _products(graph):
        size = matrix.dims[0]
        num_blocks = -(-size // rounding.block_size)
        if num_blocks % 2:
            raise Conflict(
                f"k_quant needs an even number of blocks: {size} inputs in blocks of {rounding.block_size} are "
                f"{num_blocks}; choose another --block-size",
                reason=Reason.SETTING_INVALID,
            )
