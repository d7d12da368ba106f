"""The edited graph computes what the exported one does, and a graph that we do not understand is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from common.errors import BadModel, Reason
from tests.support.processes import DEMO_MODEL
from tests.support.tiny_models import TINY_LLAMA, TINY_LLAMA_INT4, TINY_QWEN2, copy_model
from worker.runtime.artifacts import read_artifact
from worker.runtime.graphs.edit import LENGTHS, LOGITS_AT, LONGEST, edited
from worker.runtime.graphs.exported import ExportedGraph, read_exported
from worker.runtime.models.registry import family_of

Array = npt.NDArray[Any]
FOLDERS = [TINY_LLAMA, TINY_LLAMA_INT4, TINY_QWEN2, DEMO_MODEL]


def read(folder: Path) -> ExportedGraph:
    artifact = read_artifact(folder)
    return read_exported(artifact, family_of(artifact.config.model.type))


def session(model: onnx.ModelProto, folder: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(folder)
    )
    return ort.InferenceSession(model.SerializeToString(), options)


def no_past(exported: ExportedGraph, rows: int) -> dict[str, Array]:
    names, shape = exported.names, (rows, exported.num_kv_heads, 0, exported.head_size)
    return {
        template % layer: np.zeros(shape, np.float32)
        for template in (names.past_key, names.past_value)
        for layer in range(exported.num_layers)
    }


def first_prompts(exported: ExportedGraph, lengths: list[int]) -> dict[str, Array]:
    """Right-padded prompts without a past, as the exported graph and the edited one may take them."""
    rng, size = np.random.default_rng(3), max(lengths)
    ids = rng.integers(0, exported.vocab_size, (len(lengths), size))
    return {exported.names.input_ids: ids, **no_past(exported, len(lengths))}


def mask_of(lengths: list[int]) -> Array:
    return (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)


@pytest.mark.parametrize(
    "folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}"
)
def test_chosen_logits_are_those_of_the_exported_graph(folder: Path) -> None:
    exported, lengths = read(folder), [9, 4, 1]
    shared = first_prompts(exported, lengths)
    every = session(exported.model, folder).run(
        [exported.names.logits], {**shared, exported.names.attention_mask: mask_of(lengths)}
    )[0]
    at = np.array([[0, 8], [1, 3], [2, 0], [0, 2]])
    chosen = session(edited(exported), folder).run(
        [exported.names.logits],
        {
            **shared,
            LENGTHS: np.array(lengths, np.int32) - 1,
            LONGEST: np.array(max(lengths), np.int32),
            LOGITS_AT: at,
        },
    )[0]
    assert chosen.tobytes() == every[at[:, 0], at[:, 1]].tobytes()


def test_nothing_drawn_costs_no_head() -> None:
    exported = read(TINY_LLAMA)
    none = session(edited(exported), TINY_LLAMA).run(
        [exported.names.logits],
        {
            **first_prompts(exported, [5]),
            LENGTHS: np.array([4], np.int32),
            LONGEST: np.array(5, np.int32),
            LOGITS_AT: np.zeros((0, 2), np.int64),
        },
    )[0]
    assert none.shape == (0, exported.vocab_size)


@pytest.mark.parametrize(
    "folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}"
)
def test_positions_are_chosen_before_the_head(folder: Path) -> None:
    graph = edited(read(folder)).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    (gather,) = [node for node in graph.node if node.op_type == "GatherND"]
    assert makers[gather.input[0]] == "SkipSimplifiedLayerNormalization"
    assert not [node for node in graph.node if "attn_mask" in node.name]


def test_an_unknown_end_is_gathered_from_the_logits() -> None:
    """Slower, and as right."""
    exported = read(TINY_LLAMA)
    graph = exported.model.graph
    last = next(node for node in graph.node if node.output[0] == exported.names.logits)
    last.output[0] = "nearly"
    graph.node.append(helper.make_node("Relu", ["nearly"], [exported.names.logits]))
    model = edited(exported)
    (gather,) = [node for node in model.graph.node if node.op_type == "GatherND"]
    assert gather.output[0] == exported.names.logits
    shared = first_prompts(exported, [6])
    every = session(exported.model, TINY_LLAMA).run(
        [exported.names.logits], {**shared, exported.names.attention_mask: mask_of([6])}
    )[0]
    chosen = session(model, TINY_LLAMA).run(
        [exported.names.logits],
        {
            **shared,
            LENGTHS: np.array([5], np.int32),
            LONGEST: np.array(6, np.int32),
            LOGITS_AT: np.array([[0, 5]]),
        },
    )[0]
    assert chosen.tobytes() == every[0, 5:].tobytes()


def test_a_head_behind_a_transposed_table_is_found() -> None:
    """Tied embeddings: the output matrix is computed from a constant."""
    exported = read(TINY_QWEN2)
    graph = exported.model.graph
    head = next(node for node in graph.node if node.output[0] == exported.names.logits)
    assert head.op_type == "MatMul"
    twice = [
        helper.make_node("Neg", [head.input[1]], ["once"]),
        helper.make_node("Neg", ["once"], ["twice"]),
    ]
    head.input[1] = "twice"
    at = list(graph.node).index(head)
    for node in reversed(twice):
        graph.node.insert(at, node)
    (gather,) = [node for node in edited(exported).graph.node if node.op_type == "GatherND"]
    assert "norm" in gather.input[0]


def test_the_exported_graph_stays_as_it_was() -> None:
    exported = read(TINY_LLAMA)
    before = exported.model.SerializeToString(deterministic=True)
    edited(exported)
    assert exported.model.SerializeToString(deterministic=True) == before


def attentions(graph: Any) -> list[Any]:
    return [node for node in graph.node if node.op_type == "GroupQueryAttention"]


def _swap_key_and_value(graph: Any) -> None:
    node = attentions(graph)[1]
    node.input[3], node.input[4] = node.input[4], node.input[3]


def _swap_layers(graph: Any) -> None:
    first, second = attentions(graph)[:2]
    for at in (1, 2):
        first.output[at], second.output[at] = second.output[at], first.output[at]


def _window(graph: Any) -> None:
    attentions(graph)[0].attribute.append(helper.make_attribute("sliding_window_cache", 1))


def _detour(graph: Any) -> None:
    node = attentions(graph)[0]
    graph.node.insert(0, helper.make_node("Identity", [node.input[3]], ["detour"]))
    node.input[3] = "detour"


def _second_reader(graph: Any) -> None:
    graph.node.append(helper.make_node("Identity", ["past_key_values.0.key"], ["copy"]))


def _other_operator(graph: Any) -> None:
    attentions(graph)[0].op_type = "MultiHeadAttention"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_swap_key_and_value, "mixes up the cache of layer 1"),
        (_swap_layers, "mixes up the cache of layer 0"),
        (_window, "windowed_kv_cache=false"),
        (_detour, "must go into one GroupQueryAttention"),
        (_second_reader, "must go into one GroupQueryAttention"),
        (_other_operator, "must go into one GroupQueryAttention"),
    ],
)
def test_a_cache_that_we_do_not_understand_is_refused(
    tmp_path: Path, change: Callable[[Any], None], words: str
) -> None:
    folder = copy_model(TINY_LLAMA, tmp_path / "model")
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    change(model.graph)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BadModel, match=words) as caught:
        read(folder)
    assert caught.value.reason is Reason.MODEL_GRAPH_UNSUPPORTED
    assert caught.value.message.startswith("model.onnx: ")
    assert "\n" not in caught.value.message


def test_a_weight_that_is_also_an_input_is_a_weight(tmp_path: Path) -> None:
    """Older exporters list initializers among the inputs."""
    folder = copy_model(TINY_LLAMA, tmp_path / "model")
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    table = numpy_helper.from_array(np.zeros(3, np.float32), "spare")
    model.graph.initializer.append(table)
    model.graph.input.append(helper.make_tensor_value_info("spare", table.data_type, [3]))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    assert read(folder).num_layers > 0
