"""The exported graph that appends to its past → the same with logits of chosen positions alone. Pure.

Of one row, S tokens of which are new, T in all:

    input_ids, position_ids     int64 [1, S]                          as before
    attention_mask              int64 [1, T]                          as before: ones
    past keys and values        float32 [1, kv_heads, T - S, head]    as before
    LOGITS_AT                   int64 [drawn, 2]                      (0, position within the run) of each token to draw
    present keys and values     float32 [1, kv_heads, T, head]        as before
    logits                      float32 [drawn, vocab]
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from worker.runtime.graphs.edit import LOGITS_AT, draw_from, replace_io
from worker.runtime.graphs.exported import ExportedGraph

__all__ = ["growing_graph"]


def growing_graph(exported: ExportedGraph) -> onnx.ModelProto:
    """A copy with the edit; the exported one stays as it is."""
    model = onnx.ModelProto()
    model.CopyFrom(exported.model)
    draw_from(model.graph, exported.names.logits)
    at = helper.make_tensor_value_info(LOGITS_AT, TensorProto.INT64, ["drawn", 2])
    replace_io(exported, model, gone=(), inputs=[at])
    return model
