"""Tiny models of tests/goldens in fp16, as the onnxruntime-genai builder exports them for CUDA: numbers in half
precision from the embedding to the logits, keys and values included; ids and lengths as before.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from tests.support.tiny_models import copy_model

__all__ = ["in_half"]


@cache
def in_half(source: Path) -> Path:
    """A copy of an fp32 or int4 model with everything that was float32 in float16; gone with the test process."""
    scratch = tempfile.TemporaryDirectory(prefix="lepton-half-")
    _kept.append(scratch)
    folder = copy_model(source, Path(scratch.name) / f"{source.parent.name}-{source.name}-half")
    file = folder / "model.onnx"
    model = onnx.load(file)
    graph = model.graph
    for node in (*graph.input, *graph.output):
        if node.type.tensor_type.elem_type == TensorProto.FLOAT:
            node.type.tensor_type.elem_type = TensorProto.FLOAT16
    for tensor in graph.initializer:
        _narrow(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _narrow(attribute.t)
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    del graph.value_info[:]
    (folder / "model.onnx.data").unlink()
    onnx.save(model, file, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    return folder


_kept: Final[list[tempfile.TemporaryDirectory[str]]] = []


def _narrow(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16)))
        tensor.name = name
