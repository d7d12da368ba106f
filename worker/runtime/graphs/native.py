"""The exported graph → the graph on our own operators (`worker.kernels`), for any mix of prompts and single tokens.

Tokens of all rows lie one after another in one long row; only attention knows where one ends and the next begins:

    input_ids        int64 [1, tokens]
    SLOTS            int32 [rows]          the slot of each row's keys and values
    STARTS           int32 [rows + 1]      a row's tokens are STARTS[r] … STARTS[r + 1]
    LENGTHS          int32 [rows]          tokens of each row after this run
    LOGITS_AT        int64 [drawn, 2]      (0, index) of each token to draw from
    past keys and values                   of all slots, written in place: they have no present counterparts
    KEY_SCALES, VALUE_SCALES               float32 [slots, kv_heads, capacity] of each layer, with int8
    logits           float32 [drawn, vocab]
    BEST             int64 [drawn]         the id of the largest of them, −1 where one is not finite

Every operator in it treats each token by itself, and attention depends on positions alone, so a token gets the same
bits in every run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from worker.kernels.library import DOMAIN, LANES, InstructionSet
from worker.kernels.packing import gated_order, pack_per_block, pack_weights
from worker.runtime.graphs.edit import LENGTHS, LOGITS_AT, draw_from, replace_io
from worker.runtime.graphs.exported import ATTENTION, ExportedGraph
from worker.runtime.graphs.gates import Gate, find_gates
from worker.runtime.graphs.weights import BlockWeights, RewrittenGraph, Weights
from worker.runtime.kv_precision import FP32, KvPrecision
from worker.runtime.models.family import CacheRule

__all__ = [
    "BEST",
    "KEY_SCALES",
    "SLOTS",
    "STARTS",
    "VALUE_SCALES",
    "native_graph",
    "why_not_native",
]

KEY_SCALES: Final = "lepton.key_scales.%d"
VALUE_SCALES: Final = "lepton.value_scales.%d"
SLOTS: Final = "lepton.slots"
STARTS: Final = "lepton.starts"
BEST: Final = "lepton.best"

_KV: Final = slice(3, 5)
_ROTARY: Final = slice(7, 9)
"""Inputs of GroupQueryAttention: past key and value; cos and sin. Those after them we do not know."""
_ATTRIBUTES: Final = {
    "num_heads": 0,
    "kv_num_heads": 0,
    "scale": 0.0,
    "softcap": 0.0,
    "local_window_size": -1,
    "do_rotary": 0,
    "rotary_interleaved": 0,
}
"""That both operators have, with their defaults."""
_HARMLESS: Final = {
    "smooth_softmax": (0, -1),
    "qk_output": (0,),
    "causal": (1,),
    "kv_cache_bit_width": (0,),
}
"""That only GroupQueryAttention has, with the values that change nothing."""
_BLOCKS: Final = range(16, 1025, 16)
_HEAD_MAX: Final = 512


def why_not_native(exported: ExportedGraph) -> str | None:
    """What in this graph our operators cannot do; None when they can do all of it."""
    if exported.cache is CacheRule.GROWING:
        return "a past that grows"
    if exported.kv is not FP32:
        return f"a graph that computes in {exported.kv.name}"
    if exported.head_size % LANES or exported.head_size > _HEAD_MAX:
        return f"heads of {exported.head_size}"
    for node in exported.model.graph.node:
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        if node.op_type == ATTENTION:
            if any(node.input[9:]) or len(node.output) > 3:
                return f"{ATTENTION} with inputs or outputs beyond rotation"
            for name, value in attributes.items():
                if name not in _ATTRIBUTES and value not in _HARMLESS.get(name, ()):
                    return f"{ATTENTION} with {name} = {value}"
        elif node.op_type == "MatMulNBits":
            bits, block = attributes.get("bits", 4), attributes.get("block_size", 0)
            if bits not in (4, 8) or block not in _BLOCKS:
                return f"weights of {bits} bits in blocks of {block}"
            if len(node.input) > 4 and node.input[4]:
                return "weights in another order (g_idx)"
    return None


def native_graph(
    exported: ExportedGraph, graph_file: Path, kv: KvPrecision, isa: InstructionSet
) -> RewrittenGraph:
    """A copy on our operators in that instruction set; `why_not_native` has said that there is nothing against it.

    `graph_file` is where the model was read from. Raises ValueError or OSError when weights cannot be read.
    """
    model = onnx.ModelProto()
    model.CopyFrom(exported.model)
    graph = model.graph
    draw_from(graph, exported.names.logits)
    weights = Weights(graph, graph_file)
    nodes = list(_replaced(graph, exported, weights, kv))
    nodes.append(helper.make_node("Largest", [exported.names.logits], [BEST], domain=DOMAIN))
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    for ours in nodes:
        if ours.domain == DOMAIN:
            ours.attribute.append(helper.make_attribute("isa", isa))
    del graph.node[:]
    graph.node.extend(nodes)
    graph.output.append(helper.make_tensor_value_info(BEST, TensorProto.INT64, ["drawn"]))
    names = exported.names
    gone = {names.attention_mask, *_per_layer(exported, names.present_key, names.present_value)}
    replace_io(
        exported,
        model,
        gone=gone,
        inputs=[
            helper.make_tensor_value_info(SLOTS, TensorProto.INT32, ["rows"]),
            helper.make_tensor_value_info(STARTS, TensorProto.INT32, ["borders"]),
            helper.make_tensor_value_info(LENGTHS, TensorProto.INT32, ["rows"]),
            helper.make_tensor_value_info(LOGITS_AT, TensorProto.INT64, ["drawn", 2]),
            *_scale_inputs(exported, kv),
        ],
    )
    caches = set(_per_layer(exported, names.past_key, names.past_value))
    for node in graph.input:
        if node.name in caches:
            node.type.tensor_type.elem_type = kv.onnx_type
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return RewrittenGraph(model=model, files=weights.finish())


def _scale_inputs(exported: ExportedGraph, kv: KvPrecision) -> list[onnx.ValueInfoProto]:
    if not kv.is_scaled:
        return []
    shape: list[str | int | None] = ["slots", exported.num_kv_heads, "capacity"]
    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name in _per_layer(exported, KEY_SCALES, VALUE_SCALES)
    ]


def _per_layer(exported: ExportedGraph, *templates: str) -> list[str]:
    return [template % layer for template in templates for layer in range(exported.num_layers)]


def _replaced(
    graph: onnx.GraphProto, exported: ExportedGraph, weights: Weights, kv: KvPrecision
) -> Iterator[onnx.NodeProto]:
    gates = find_gates(graph)
    inside = {id(node) for gate in gates for node in gate.inside}
    at = {id(gate.product): gate for gate in gates}
    for node in graph.node:
        if id(node) in at:
            yield _gated_product(at[id(node)], weights)
        elif id(node) in inside:
            continue
        elif node.op_type == "MatMulNBits":
            yield _product(node, weights)
        elif node.op_type == ATTENTION:
            yield _attention(node, exported, kv)
        else:
            yield node


def _product(node: onnx.NodeProto, weights: Weights) -> onnx.NodeProto:
    bias = node.input[5] if len(node.input) > 5 else ""
    return _block_matmul(node, weights.of(node), weights, node.output[0], bias=bias)


def _gated_product(gate: Gate, weights: Weights) -> onnx.NodeProto:
    """Two products of one input and what joins them as one; 16 outputs of each by turns."""
    first, other = weights.of(gate.gate), weights.of(gate.other)
    order = gated_order(len(first.values))
    both = replace(
        first,
        values=np.concatenate([first.values, other.values])[order],
        scales=np.concatenate([first.scales, other.scales])[order],
    )
    return _block_matmul(gate.gate, both, weights, gate.product.output[0], gated=True)


def _block_matmul(
    node: onnx.NodeProto,
    stored: BlockWeights,
    weights: Weights,
    y: str,
    *,
    bias: str = "",
    gated: bool = False,
) -> onnx.NodeProto:
    zeros = ""
    if stored.zeros is not None:
        zeros = weights.add(f"{y}/zeros", pack_per_block(stored.zeros))
    return helper.make_node(
        "BlockMatMul",
        [
            node.input[0],
            weights.add(f"{y}/weights", pack_weights(stored.values, stored.bits)),
            weights.add(f"{y}/scales", pack_per_block(stored.scales)),
            zeros,
            bias,
        ],
        [y],
        name=node.name,
        domain=DOMAIN,
        K=stored.values.shape[1],
        N=stored.values.shape[0],
        bits=stored.bits,
        block_size=stored.block,
        gated=int(gated),
    )


def _attention(node: onnx.NodeProto, exported: ExportedGraph, kv: KvPrecision) -> onnx.NodeProto:
    given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    attributes = {name: given.get(name, default) for name, default in _ATTRIBUTES.items()}
    attributes["scale"] = float(attributes["scale"]) or float(
        1 / np.sqrt(np.float32(exported.head_size))
    )
    attributes["softcap"] = float(attributes["softcap"])
    rotary = list(node.input[_ROTARY]) if attributes["do_rotary"] else ["", ""]
    layer = _per_layer(exported, exported.names.past_key).index(node.input[3])
    scales = [KEY_SCALES % layer, VALUE_SCALES % layer] if kv.is_scaled else []
    return helper.make_node(
        "Attention",
        [*node.input[:3], *node.input[_KV], SLOTS, STARTS, LENGTHS, *rotary, *scales],
        node.output[:1],
        name=node.name,
        domain=DOMAIN,
        kv_bits=8 * kv.num_bytes,
        **attributes,
    )
