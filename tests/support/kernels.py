"""Graphs of our own operators, to be run."""

from __future__ import annotations

import onnxruntime as ort
import pytest
from onnx import GraphProto, helper

from worker.kernels.library import DOMAIN, find_library, isas_here

__all__ = ["EVERY_ISA", "open_graph"]

EVERY_ISA = pytest.mark.parametrize("isa", isas_here())
"""Each instruction set that this processor has."""


def open_graph(graph: GraphProto, isa: str, *, threads: int = 2) -> ort.InferenceSession:
    """Every node in that instruction set; what ONNX Runtime has to say about it stays unsaid."""
    for node in graph.node:
        node.attribute.append(helper.make_attribute("isa", isa))
    domains = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.register_custom_ops_library(str(find_library()))
    return ort.InferenceSession(model.SerializeToString(), options)
