"""The exported graph → the graph that we run. Pure; weights stay where they are.

Three edits, for every family alike:

- *Lengths come in directly.* An exported graph derives each row's length from an attention mask [rows, longest], which
  somebody has to write and the graph has to sum up in every step. GroupQueryAttention wants only the lengths.
- *Logits of chosen positions alone.* An exported graph multiplies every position by the output matrix, which for a
  small model is a fifth of all work. Only the last position of a prompt is drawn from, and none of an unfinished one.

- *Logits leave as float32*, whatever the graph computes with: a graph in fp16 widens them itself, where it computes.

    input_ids        int64 [rows, S]          as before
    LENGTHS          int32 [rows]             tokens of each row after this run, minus one
    LONGEST          int32 []                 the largest of these, plus one; equal to S for a first prompt alone
    LOGITS_AT        int64 [drawn, 2]         (row, position within the run) of each token to draw
    logits           float32 [drawn, vocab]

Source: ONNX Runtime's contrib operators, com.microsoft.GroupQueryAttention, inputs 5 and 6.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Sequence as SequenceOf
from typing import Final

import onnx
from onnx import TensorProto, helper

from worker.runtime.graphs.exported import ExportedGraph
from worker.runtime.kv_precision import FP32

__all__ = ["LENGTHS", "LOGITS_AT", "LONGEST", "draw_from", "edited", "replace_io"]

LENGTHS: Final = "lepton.lengths"
LONGEST: Final = "lepton.longest"
LOGITS_AT: Final = "lepton.logits_at"

_LENGTHS_INPUT, _LONGEST_INPUT = 5, 6

_NORMS: Final = frozenset(
    {
        "SimplifiedLayerNormalization",
        "SkipSimplifiedLayerNormalization",
        "LayerNormalization",
        "SkipLayerNormalization",
        "RMSNormalization",
    }
)
_ROW_BY_ROW: Final = frozenset(
    {"MatMul", "MatMulNBits", "BlockMatMul", "Add", "Mul", "Div", "Tanh", "Cast"}
)
"""What may stand between the last norm and the logits: operators that treat each position by itself."""


def edited(exported: ExportedGraph) -> onnx.ModelProto:
    """A copy with these edits; the exported one stays as it is."""
    model = onnx.ModelProto()
    model.CopyFrom(exported.model)
    graph = model.graph
    for node in graph.node:
        if node.op_type == "GroupQueryAttention":
            node.input[_LENGTHS_INPUT], node.input[_LONGEST_INPUT] = LENGTHS, LONGEST
    draw_from(graph, exported.names.logits)
    if exported.kv is not FP32:
        _widen(graph, exported.names.logits)
    replace_io(
        exported,
        model,
        gone={exported.names.attention_mask},
        inputs=[
            helper.make_tensor_value_info(LENGTHS, TensorProto.INT32, ["batch_size"]),
            helper.make_tensor_value_info(LONGEST, TensorProto.INT32, []),
            helper.make_tensor_value_info(LOGITS_AT, TensorProto.INT64, ["drawn", 2]),
        ],
    )
    return model


def replace_io(
    exported: ExportedGraph,
    model: onnx.ModelProto,
    *,
    gone: Collection[str],
    inputs: SequenceOf[onnx.ValueInfoProto],
) -> None:
    """Drops what is `gone` and what only that needs, adds `inputs`, and declares logits [drawn, vocab]."""
    graph = model.graph
    logits = helper.make_tensor_value_info(
        exported.names.logits, TensorProto.FLOAT, ["drawn", exported.vocab_size]
    )
    kept = [node for node in graph.input if node.name not in gone]
    outputs = [
        logits if node.name == logits.name else node
        for node in graph.output
        if node.name not in gone
    ]
    for field, nodes in ((graph.input, [*kept, *inputs]), (graph.output, outputs)):
        copies = [_copy(node) for node in nodes]
        del field[:]
        field.extend(copies)
    _drop_unused_nodes(graph)
    del graph.value_info[:]  # shapes that the exporter noted; some of them no longer hold


def _copy(node: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(node)
    return copy


def draw_from(graph: onnx.GraphProto, logits: str) -> None:
    """Picks the positions to draw from as early as it may be done: after the last norm, else from the logits."""
    maker = {name: node for node in graph.node for name in node.output}
    constants = _constants(graph)
    node, at = maker[logits], logits
    head: onnx.NodeProto | None = None
    while node.op_type in _ROW_BY_ROW:
        varying = [name for name in node.input if name not in constants]
        if len(varying) != 1 or varying[0] not in maker:
            break
        head, at = node, varying[0]
        node = maker[at]
    if head is None or node.op_type not in _NORMS or node.output[0] != at:
        _gather_logits(graph, logits)
        return
    chosen = f"{at}/chosen"
    position = next(
        index for index, other in enumerate(graph.node) if other.output[0] == head.output[0]
    )
    head.input[list(head.input).index(at)] = chosen
    graph.node.insert(position, _gather(at, chosen))


def _constants(graph: onnx.GraphProto) -> set[str]:
    """Names whose value is the same in every run; nodes come in an order in which they can be computed."""
    known = {"", *(tensor.name for tensor in graph.initializer)}
    for node in graph.node:
        if all(name in known for name in node.input):
            known.update(node.output)
    return known


def _gather_logits(graph: onnx.GraphProto, logits: str) -> None:
    """The slow form, for a graph whose end we do not know."""
    every = f"{logits}/every"
    _rename_output(graph, logits, every)
    graph.node.append(_gather(every, logits))


def _widen(graph: onnx.GraphProto, logits: str) -> None:
    narrow = f"{logits}/narrow"
    _rename_output(graph, logits, narrow)
    graph.node.append(
        helper.make_node("Cast", [narrow], [logits], name="/lepton/logits", to=TensorProto.FLOAT)
    )


def _rename_output(graph: onnx.GraphProto, name: str, other: str) -> None:
    for node in graph.node:
        for position, output in enumerate(node.output):
            if output == name:
                node.output[position] = other


def _gather(data: str, output: str) -> onnx.NodeProto:
    return helper.make_node("GatherND", [data, LOGITS_AT], [output], name="/lepton/logits_at")


def _drop_unused_nodes(graph: onnx.GraphProto) -> None:
    """Nodes from which no output follows: the mask's arithmetic."""
    wanted = {node.name for node in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if any(name in wanted for name in node.output):
            wanted.update(node.input)
            kept.append(node)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
    del graph.node[:]
    graph.node.extend(nodes)
