"""Optimum's exports: what they say of themselves, and what is refused before anything is served."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from common.errors import BadModel, Reason
from loadtest.latency.cpu import rss_bytes
from tests.support.tiny_models import TINY_LLAMA, TINY_OPTIMUM, copy_model, edit_json, load_tiny
from tests.unit.worker.runtime.test_runtime_runner import generate_alone
from worker.conversion.served import read_served
from worker.runtime.artifacts import read_artifact
from worker.runtime.graphs.edit import LOGITS_AT
from worker.runtime.growing import TILE, GrowingForward
from worker.runtime.model import load_model

LLAMA, GPT2 = TINY_OPTIMUM
Harm = Callable[[Path], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy_model(LLAMA, tmp_path / "model")


def refusal(folder: Path, **options: Any) -> BadModel:
    with pytest.raises(BadModel) as caught:
        load_model(folder, name="m", threads=1, rows_max=2, **options)
    return caught.value


def config(**changes: Any) -> Harm:
    return lambda folder: edit_json(folder / "config.json", changes)


def graph(change: Callable[[onnx.GraphProto], None]) -> Harm:
    def harm(folder: Path) -> None:
        model = onnx.load(folder / "model.onnx")
        change(model.graph)
        (folder / "model.onnx").write_bytes(model.SerializeToString())

    return harm


def maker(graph: onnx.GraphProto, name: str) -> onnx.NodeProto:
    return next(node for node in graph.node if name in node.output)


def past_behind_the_new(graph: onnx.GraphProto) -> None:
    node = maker(graph, "present.1.value")
    node.input[:] = list(node.input)[::-1]


def past_of_another_layer(graph: onnx.GraphProto) -> None:
    for layer, other in ((0, 1), (1, 0)):
        maker(graph, f"present.{layer}.key").input[0] = f"past_key_values.{other}.key"


def heads_that_grow(graph: onnx.GraphProto) -> None:
    maker(graph, "present.0.key").attribute[0].i = 1


def only_the_end_of_the_past(graph: onnx.GraphProto) -> None:
    """As exporters do for layers with a window."""
    node = maker(graph, "present.0.key")
    node.output[0] = "whole"
    cut = helper.make_node("Slice", ["whole", "from", "to", "axis"], ["present.0.key"])
    for name, value in (("from", -8), ("to", 1 << 40), ("axis", 2)):
        graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [1], [value]))
    graph.node.append(cut)


def two_graphs_in_one(graph: onnx.GraphProto) -> None:
    """As Optimum's merged decoders are."""
    graph.input.append(helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1]))


def halves(graph: onnx.GraphProto) -> None:
    for tensor in graph.input:
        if tensor.name.startswith("past"):
            tensor.type.tensor_type.elem_type = TensorProto.FLOAT16


def no_past(graph: onnx.GraphProto) -> None:
    kept = [tensor for tensor in graph.input if not tensor.name.startswith("past")]
    del graph.input[:]
    graph.input.extend(kept)


INVALID, GRAPH = Reason.MODEL_FILE_INVALID, Reason.MODEL_GRAPH_UNSUPPORTED
FAULTS: dict[str, tuple[Harm, Reason, str, str]] = {
    "no length": (config(max_position_embeddings=None), INVALID, "config.json", "max_position_embeddings"),
    "heads as text": (config(num_attention_heads="4"), INVALID, "config.json", "num_attention_heads"),
    "heads do not divide": (config(num_attention_heads=5), INVALID, "config.json", "not a multiple"),
    "other heads": (config(num_key_value_heads=4), GRAPH, "model.onnx", "is 2 along axis 1, must be 4"),
    "other head size": (config(head_dim=8), GRAPH, "model.onnx", "is 16 along axis 3, must be 8"),
    "too many layers": (config(num_hidden_layers=4), GRAPH, "model.onnx", "past_key_values.3.key"),
    "too few layers": (config(num_hidden_layers=2), GRAPH, "model.onnx", "past_key_values.2.key"),
    "past behind the new": (graph(past_behind_the_new), GRAPH, "model.onnx", "'present.1.value' must be"),
    "past of another layer": (graph(past_of_another_layer), GRAPH, "model.onnx", "'present.0.key' must be"),
    "heads that grow": (graph(heads_that_grow), GRAPH, "model.onnx", "grows along axis 1"),
    "only the end": (graph(only_the_end_of_the_past), GRAPH, "model.onnx", "text-generation-with-past"),
    "merged": (graph(two_graphs_in_one), GRAPH, "model.onnx", "'use_cache_branch'"),
    "halves": (graph(halves), GRAPH, "model.onnx", "is tensor(float16), must be tensor(float)"),
    "no past": (graph(no_past), GRAPH, "model.onnx", "input 'past_key_values.0.key'"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault(folder: Path, fault: str) -> None:
    harm, reason, file, words = FAULTS[fault]
    harm(folder)
    error = refusal(folder)
    assert error.reason is reason, error
    assert error.message.startswith(f"{file}: "), error
    assert words in error.message
    assert "\n" not in error.message


def test_a_model_without_an_end_is_refused(folder: Path) -> None:
    edit_json(folder / "config.json", {"eos_token_id": None})
    assert read_artifact(folder).config.model.eos_ids == {2}, "generation_config.json has one"
    (folder / "generation_config.json").unlink()
    assert "eos_token_id" in refusal(folder).message


def test_how_answers_end_is_what_generation_config_says(folder: Path) -> None:
    before = read_artifact(folder)
    edit_json(folder / "generation_config.json", {"eos_token_id": [2, 5]})
    after = read_artifact(folder)
    assert (before.config.model.eos_ids, after.config.model.eos_ids) == ({2}, {2, 5})
    assert before.revision != after.revision


def test_a_genai_config_beside_it_wins(folder: Path) -> None:
    (folder / "genai_config.json").write_text((TINY_LLAMA / "genai_config.json").read_text())
    assert "'position_ids', which we do not know" in refusal(folder).message


def test_sizes_under_their_older_names() -> None:
    said = json.loads((GPT2 / "config.json").read_text())
    model = read_artifact(GPT2).config.model
    assert "hidden_size" not in said
    assert (model.context_length, model.decoder.num_hidden_layers) == (256, 2)
    assert (model.decoder.num_key_value_heads, model.decoder.head_size) == (4, 16)


@pytest.mark.parametrize("options", [{"kernels": "native"}, {"kv_precision": "int8"}], ids=str)
def test_what_needs_our_operators_is_refused(options: dict[str, Any]) -> None:
    assert refusal(LLAMA, **options).reason is GRAPH


def test_it_is_not_quantised() -> None:
    with pytest.raises(BadModel, match="lepton convert"):
        read_served(LLAMA)


def test_two_exports_of_one_model_agree() -> None:
    """Other operators, another order of sums, the same weights."""
    prompt = [(at * 31) % 300 for at in range(70)]
    growing, shared = load_tiny(LLAMA), load_tiny(TINY_LLAMA)
    assert growing.info.revision != shared.info.revision
    assert generate_alone(growing, prompt, 40)[0] == generate_alone(shared, prompt, 40)[0]


def test_runs_follow_from_positions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """However a prompt is cut; of the positions of an unfinished one no logits are computed."""
    forward = load_tiny(LLAMA).runner.forward
    assert isinstance(forward, GrowingForward)
    runs: list[tuple[int, int, int | None]] = []
    run = forward._run

    def noted(slot: int, ids: tuple[int, ...], start: int, *, draws_to: int | None) -> None:
        runs.append((start, start + len(ids), draws_to))
        run(slot, ids, start, draws_to=draws_to)

    monkeypatch.setattr(forward, "_run", noted)
    for borders in ((), (40,), (2, 4, 30, 64), (32, 64), (88,)):
        runs.clear()
        generate_alone(load_tiny(LLAMA), [7] * 90, 1, *borders)
        assert runs == [(0, TILE, None), (TILE, 2 * TILE, None), (2 * TILE, 90, 0)]


def test_a_context_that_is_longer_than_the_table_of_positions(tmp_path: Path) -> None:
    folder = copy_model(GPT2, tmp_path / "model")
    edit_json(folder / "config.json", {"n_positions": 300})
    error = refusal(folder)
    assert error.reason is GRAPH
    assert "does not run" in error.message


def test_a_long_context_takes_no_memory_before_it_is_used(folder: Path) -> None:
    """Turned positions have no table: one row of this length would take 800 MB."""
    edit_json(folder / "config.json", {"max_position_embeddings": 1 << 20})
    before = rss_bytes(os.getpid())
    model = load_model(folder, name="m", threads=1, rows_max=4)
    assert rss_bytes(os.getpid()) - before < 100 << 20
    assert model.info.context_length == 1 << 20


def test_weights_inside_the_graph_are_not_kept_twice() -> None:
    forward = load_tiny(LLAMA).runner.forward
    assert isinstance(forward, GrowingForward)
    kept = [value for value in vars(forward._graph.many).values() if isinstance(value, bytes)]
    assert kept == []


def test_an_idle_model_forgets_and_goes_on() -> None:
    model = load_tiny(LLAMA)
    before = generate_alone(model, [5, 6, 7], 9)[0]
    model.runner.rest()
    assert generate_alone(model, [5, 6, 7], 9)[0] == before


def test_the_graph_that_runs_draws_from_chosen_positions() -> None:
    forward = load_tiny(GPT2).runner.forward
    assert isinstance(forward, GrowingForward)
    assert LOGITS_AT in {node.name for node in forward._graph.many.get_inputs()}
