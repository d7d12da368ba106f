"""model.onnx as its exporter left it: read without its weights, and held to what genai_config.json says of it.

ONNX Runtime takes the past from shapes alone and computes nonsense on wrong ones without an error, so everything that
the file tells is checked here, before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from common.errors import BadModel, Reason
from worker.runtime.artifacts import Artifact
from worker.runtime.kv_precision import FP16, FP32, KvPrecision
from worker.runtime.models.family import CacheRule, GraphNames, ModelFamily

__all__ = ["ExportedGraph", "read_exported"]

ATTENTION: Final = "GroupQueryAttention"

_POSITIONS: Final = 2
"""The axis of keys and values along which positions lie."""

Expected = tuple[tuple[int, ...], list[int | None]]
"""Element types and shape of a tensor; None for a size that varies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedGraph:
    """A graph that is what its configuration says, and the numbers that buffers are made from."""

    file: str
    """Its name, for messages."""
    model: onnx.ModelProto
    """Large tensors are references into the files beside it."""
    cache: CacheRule
    names: GraphNames
    kv: KvPrecision
    """Of the keys and values that it takes and returns. Where they are fp16, so is all that it computes, logits too."""
    num_layers: int
    num_kv_heads: int
    head_size: int
    vocab_size: int

    @property
    def attentions(self) -> list[onnx.NodeProto]:
        """The nodes that keep keys and values, one per layer."""
        return [node for node in self.model.graph.node if node.op_type == ATTENTION]


def read_exported(artifact: Artifact, family: ModelFamily) -> ExportedGraph:
    """Reads and checks.

    Raises `BadModel`: MODEL_FILE_INVALID (no ONNX file), MODEL_GRAPH_UNSUPPORTED (not the graph that it should be).
    """
    file = artifact.graph.name
    try:
        model = onnx.load(artifact.graph, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise _no_model(file, " ".join(str(error).split())[:300]) from error
    if not model.graph.node:
        raise _no_model(file, "it has no graph")
    decoder = artifact.config.model.decoder
    names = _names(artifact, family, model.graph)
    exported = ExportedGraph(
        file=file,
        model=model,
        cache=family.cache,
        names=names,
        kv=_kv(file, family.cache, names, model.graph),
        num_layers=decoder.num_hidden_layers,
        num_kv_heads=decoder.num_key_value_heads,
        head_size=decoder.head_size,
        vocab_size=artifact.config.model.vocab_size,
    )
    _check_tensors(exported)
    if exported.cache is CacheRule.GROWING:
        _check_growth(exported)
    else:
        _check_attention(exported)
    return exported


def _names(artifact: Artifact, family: ModelFamily, graph: onnx.GraphProto) -> GraphNames:
    inputs, outputs = artifact.config.model.decoder.inputs, artifact.config.model.decoder.outputs
    usual = family.names
    positions = usual.position_ids and (inputs.position_ids or usual.position_ids)
    return GraphNames(
        input_ids=inputs.input_ids or usual.input_ids,
        attention_mask=inputs.attention_mask or usual.attention_mask,
        position_ids=positions if any(node.name == positions for node in graph.input) else "",
        past_key=inputs.past_key_names or usual.past_key,
        past_value=inputs.past_value_names or usual.past_value,
        logits=outputs.logits or usual.logits,
        present_key=outputs.present_key_names or usual.present_key,
        present_value=outputs.present_value_names or usual.present_value,
    )


def _kv(file: str, cache: CacheRule, names: GraphNames, graph: onnx.GraphProto) -> KvPrecision:
    """What the first layer says; all tensors are held to it (`_check_tensors`)."""
    first = names.past_key % 0
    element = next(
        (node.type.tensor_type.elem_type for node in graph.input if node.name == first), None
    )
    if cache is CacheRule.GROWING or element is None:
        return FP32
    for precision in (FP32, FP16):
        if element == precision.onnx_type:
            return precision
    raise _unsupported(
        f"{file}: input {first!r} is {_type_name(element)}, must be tensor(float) or tensor(float16)"
    )


def _check_tensors(exported: ExportedGraph) -> None:
    names, graph, layers = exported.names, exported.model.graph, range(exported.num_layers)
    ids: Expected = ((TensorProto.INT64,), [None, None])
    number = exported.kv.onnx_type
    cache: Expected = ((number,), [None, exported.num_kv_heads, None, exported.head_size])
    inputs = {names.input_ids: ids, names.attention_mask: ids}
    if names.position_ids:
        inputs[names.position_ids] = ids
    inputs |= {t % layer: cache for t in (names.past_key, names.past_value) for layer in layers}
    outputs: dict[str, Expected] = {names.logits: ((number,), [None, None, exported.vocab_size])}
    outputs |= {
        t % layer: cache for t in (names.present_key, names.present_value) for layer in layers
    }
    weights = {tensor.name for tensor in graph.initializer}
    given = {node.name: node for node in graph.input if node.name not in weights}
    _compare(exported.file, "input", inputs, given)
    _compare(exported.file, "output", outputs, {node.name: node for node in graph.output})


def _compare(
    file: str,
    kind: str,
    expected: Mapping[str, Expected],
    found: Mapping[str, onnx.ValueInfoProto],
) -> None:
    for name, (types, shape) in expected.items():
        if name not in found:
            raise _unsupported(
                f"{file}: {kind} {name!r}, which the configuration asks for, is not in the graph"
            )
        tensor = found[name].type.tensor_type
        if tensor.elem_type not in types:
            wanted = " or ".join(map(_type_name, types))
            raise _unsupported(
                f"{file}: {kind} {name!r} is {_type_name(tensor.elem_type)}, must be {wanted}"
            )
        sizes = tensor.shape.dim
        if len(sizes) != len(shape):
            raise _unsupported(
                f"{file}: {kind} {name!r} has {len(sizes)} dimensions, must have {len(shape)}"
            )
        for axis, (size, fixed) in enumerate(zip(sizes, shape, strict=True)):
            if not size.HasField("dim_value"):
                continue
            if fixed is None:
                raise _unsupported(
                    f"{file}: {kind} {name!r} is fixed to {size.dim_value} along axis {axis}"
                )
            if size.dim_value != fixed:
                raise _unsupported(
                    f"{file}: {kind} {name!r} is {size.dim_value} along axis {axis}, must be {fixed}"
                )
    if extra := sorted(found.keys() - expected.keys()):
        raise _unsupported(
            f"{file}: the graph has {kind} {extra[0]!r}, which we do not know how to use"
        )


def _check_attention(exported: ExportedGraph) -> None:
    """Every layer's keys and values go through one GroupQueryAttention, and nowhere else."""
    names, file = exported.names, exported.file
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in exported.model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for layer in range(exported.num_layers):
        past_key, past_value = names.past_key % layer, names.past_value % layer
        nodes = readers.get(past_key, []) + readers.get(past_value, [])
        if len(nodes) != 2 or nodes[0] is not nodes[1] or nodes[0].op_type != ATTENTION:
            raise _unsupported(
                f"{file}: {past_key!r} and {past_value!r} must go into one {ATTENTION} node; "
                "export with the onnxruntime-genai builder for cpu"
            )
        (node, _) = nodes
        given = list(node.input[3:5]), list(node.output[1:3])
        wanted = [past_key, past_value], [names.present_key % layer, names.present_value % layer]
        if given != wanted:
            raise _unsupported(f"{file}: node {node.name!r} mixes up the cache of layer {layer}")
        attributes = {item.name: item for item in node.attribute}
        if "sliding_window_cache" in attributes and attributes["sliding_window_cache"].i:
            raise _unsupported(
                f"{file}: layer {layer} keeps only a window of its past; "
                "export with windowed_kv_cache=false"
            )


def _check_growth(exported: ExportedGraph) -> None:
    """Every layer appends to its past and returns the whole: then what is new is at the end, and nothing is lost."""
    names, file = exported.names, exported.file
    maker = {name: node for node in exported.model.graph.node for name in node.output}
    for layer in range(exported.num_layers):
        for past, present in (
            (names.past_key % layer, names.present_key % layer),
            (names.past_value % layer, names.present_value % layer),
        ):
            node = maker.get(present)
            if node is None or node.op_type != "Concat" or list(node.input)[:-1] != [past]:
                raise _unsupported(
                    f"{file}: {present!r} must be {past!r} and the new positions (Concat); how this graph keeps its "
                    "past we do not know. Convert the model (lepton convert), or let Optimum export it as "
                    "text-generation-with-past"
                )
            axis = next((item.i for item in node.attribute if item.name == "axis"), None)
            if axis not in (_POSITIONS, _POSITIONS - 4):
                raise _unsupported(
                    f"{file}: {present!r} grows along axis {axis}, must be {_POSITIONS}"
                )


def _type_name(element_type: int) -> str:
    return f"tensor({TensorProto.DataType.Name(element_type).lower()})"


def _no_model(file: str, why: str) -> BadModel:
    return BadModel(f"{file}: not an ONNX model: {why}", reason=Reason.MODEL_FILE_INVALID)


def _unsupported(message: str) -> BadModel:
    return BadModel(message, reason=Reason.MODEL_GRAPH_UNSUPPORTED)
