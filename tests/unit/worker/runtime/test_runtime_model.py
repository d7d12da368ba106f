"""A model folder with any one thing wrong is refused at start, and the message begins with the file."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from common.errors import BadModel, Reason
from tests.support.tiny_models import (
    TINY_LLAMA,
    TINY_LLAMA_INT4,
    TINY_QWEN2,
    Message,
    copy_model,
    edit_json,
    load_tiny,
)
from worker.runtime.artifacts import read_artifact
from worker.runtime.fingerprint import instruction_set, precision_of
from worker.runtime.model import load_model
from worker.runtime.self_check import generate_greedy
from worker.runtime.threads import available_cores


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy_model(TINY_LLAMA, tmp_path / "model")


def refusal(folder: Path, **changes: Any) -> BadModel:
    with pytest.raises(BadModel) as caught:
        load_model(folder, **{"name": "tiny", "threads": 1, "rows_max": 2} | changes)
    return caught.value


def test_what_a_loaded_model_says_of_itself() -> None:
    said: list[str] = []
    model = load_model(
        TINY_LLAMA, name="tiny", threads=1, rows_max=3, context_max=100,
        progress=lambda event, fields: said.append(event),
    )  # fmt: skip
    assert said == ["model.read", "model.loaded", "model.warm"]
    info = model.info
    assert (info.name, info.context_length, info.vocab_size, info.eos_ids) == (
        "tiny",
        100,
        300,
        {2},
    )
    assert re.fullmatch(r"[0-9a-f]{64}", info.revision)
    assert re.fullmatch(
        r"ort-[\d.]+/cpu/exact/fp32(-native\d+-kv-fp32)?/\S+/l2-\d+k/threads-1", info.fingerprint
    )
    assert (model.runner.layout.num_slots, model.runner.layout.capacity) == (3, 100)
    assert model.chat_template is not None
    assert load_tiny(TINY_LLAMA).info.context_length == 256
    assert load_tiny(TINY_LLAMA, rows_max=1, context_max=9999).info.context_length == 256


def test_an_idle_model_uses_no_processor() -> None:
    """Threads look for work for a millisecond after a run, then sleep."""
    model = load_model(TINY_LLAMA, name="tiny", threads=2, rows_max=1)
    generate_greedy(model.runner, [5, 6, 7], max_tokens=5, eos_ids=frozenset())
    before = time.process_time()
    threading.Event().wait(0.4)
    assert time.process_time() - before < 0.1


def test_smallest_slab() -> None:
    model = load_model(TINY_LLAMA, name="tiny", threads=1, rows_max=1, context_max=1)
    assert len(generate_greedy(model.runner, [5], max_tokens=1, eos_ids=frozenset())) == 1


# One fault each: file, what happens to it, what is said.


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(name: str, share: float) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return apply


def point_to(name: str) -> Callable[[Path], None]:
    """Weights under another name, of the same length, that are not there."""

    def apply(folder: Path) -> None:
        graph = folder / "model.onnx"
        graph.write_bytes(graph.read_bytes().replace(b"model.onnx.data", name.encode()))

    return apply


def config(**changes: Any) -> Callable[[Path], None]:
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return lambda folder: edit_json(folder / "genai_config.json", dotted)


def raw(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data) and None


MISSING, INVALID = Reason.MODEL_FILE_MISSING, Reason.MODEL_FILE_INVALID
GRAPH, TOKENIZER = Reason.MODEL_GRAPH_UNSUPPORTED, Reason.MODEL_TOKENIZER_INVALID
CONFIG = "genai_config.json"

FAULTS: dict[str, tuple[Callable[[Path], None], Reason, str, str]] = {
    "no config": (remove(CONFIG), MISSING, CONFIG, "not found"),
    "no graph": (remove("model.onnx"), MISSING, "model.onnx", "not found"),
    "no weights": (remove("model.onnx.data"), MISSING, "model.onnx.data", "not found"),
    "no weights of another name": (point_to("model.onnx_data"), MISSING, "model.onnx_data", "not found"),
    "no tokenizer": (remove("tokenizer.json"), MISSING, "tokenizer.json", "not found"),
    "no tokenizer config": (remove("tokenizer_config.json"), MISSING, "tokenizer_config.json", "not found"),
    "config cut": (cut(CONFIG, 0.5), INVALID, CONFIG, "not JSON"),
    "config empty": (write(CONFIG, " "), INVALID, CONFIG, "not JSON"),
    "config a list": (write(CONFIG, "[]"), INVALID, CONFIG, "JSON object"),
    "config too deep": (write(CONFIG, "[" * 100_000), INVALID, CONFIG, "not JSON"),
    "config not UTF-8": (raw(CONFIG, b'{"a": "\xff"}'), INVALID, CONFIG, "UTF-8"),
    "graph cut": (cut("model.onnx", 0.5), INVALID, "model.onnx", "not an ONNX model"),
    "graph empty": (raw("model.onnx", b""), INVALID, "model.onnx", "not an ONNX model"),
    "graph not ONNX": (raw("model.onnx", b"hello" * 99), INVALID, "model.onnx", "not an ONNX model"),
    "weights cut": (cut("model.onnx.data", 0.5), INVALID, "model.onnx", "cannot load"),
    "tokenizer cut": (cut("tokenizer.json", 0.5), TOKENIZER, "tokenizer.json", "cannot be read"),
    "tokenizer of another kind": (write("tokenizer.json", "{}"), TOKENIZER, "tokenizer.json", "cannot be read"),
    "tokenizer config cut": (cut("tokenizer_config.json", 0.5), INVALID, "tokenizer_config.json", "not JSON"),
    "template broken": (write("chat_template.jinja", "{% if"), TOKENIZER, "chat_template.jinja", ""),
    "no model": (config(model=None), INVALID, CONFIG, "model: Field required"),
    "no eos": (config(model__eos_token_id=None), INVALID, CONFIG, "model.eos_token_id"),
    "eos beyond vocabulary": (config(model__eos_token_id=[2, 300]), INVALID, CONFIG, "300 is outside"),
    "eos negative": (config(model__eos_token_id=-1), INVALID, CONFIG, "model.eos_token_id"),
    "heads as text": (config(model__decoder__head_size="16"), INVALID, CONFIG, "head_size"),
    "no heads": (config(model__decoder__num_attention_heads=0), INVALID, CONFIG, "num_attention_heads"),
    "heads do not divide": (config(model__decoder__num_attention_heads=5), INVALID, CONFIG, "not a multiple"),
    "past without layer": (config(model__decoder__inputs__past_key_names="past.key"), INVALID, CONFIG, "%d"),
    "file elsewhere": (config(model__decoder__filename="../model.onnx"), INVALID, CONFIG, "plain name"),
    "other file": (config(model__decoder__filename="other.onnx"), MISSING, "other.onnx", "not found"),
    "sliding window": (config(model__decoder__sliding_window={"window_size": 8}), GRAPH, CONFIG, "sliding_window"),
    "unknown architecture": (config(model__type="mamba"), GRAPH, CONFIG, "'mamba'"),
    "vocabulary too small": (config(model__vocab_size=299), TOKENIZER, "tokenizer.json", "vocabulary ends at 298"),
    "vocabulary too large": (config(model__vocab_size=301), GRAPH, "model.onnx", "'logits' is 300"),
    "too many layers": (config(model__decoder__num_hidden_layers=4), GRAPH, "model.onnx", "past_key_values.3.key"),
    "too few layers": (config(model__decoder__num_hidden_layers=2), GRAPH, "model.onnx", "past_key_values.2.key"),
    "other head count": (config(model__decoder__num_key_value_heads=4), GRAPH, "model.onnx", "is 2 along axis 1"),
    "other head size": (config(model__decoder__head_size=32), GRAPH, "model.onnx", "does not run"),
    "other input name": (config(model__decoder__inputs__input_ids="ids"), GRAPH, "model.onnx", "input 'ids'"),
    "other output name": (config(model__decoder__outputs__logits="scores"), GRAPH, "model.onnx", "output 'scores'"),
    "context too long": (config(model__context_length=257), GRAPH, "model.onnx", "cos_cache"),
    "golden broken": (write("golden.json", "{"), INVALID, "golden.json", "not JSON"),
    "golden without text": (write("golden.json", '{"prompt": "a"}'), INVALID, "golden.json", "text"),
    "golden wrong": (
        write("golden.json", '{"prompt": "a", "text": "b", "max_tokens": 3}'),
        Reason.MODEL_GOLDEN_MISMATCH, "golden.json", "expected 'b'",
    ),
    "golden too long": (
        write("golden.json", json.dumps({"prompt": "a " * 300, "text": "b"})),
        Reason.MODEL_GOLDEN_MISMATCH, "golden.json", "a row holds 256",
    ),
    "manifest broken": (write("manifest.json", "{"), INVALID, "manifest.json", "not JSON"),
    "manifest hash malformed": (
        write("manifest.json", json.dumps({"files": {"model.onnx": {"bytes": 1, "sha256": "x"}}})),
        INVALID, "manifest.json", "files.model.onnx.sha256",
    ),
    "manifest hash differs": (
        write("manifest.json", json.dumps({"files": {"model.onnx": {"bytes": 1, "sha256": "0" * 64}}})),
        INVALID, "model.onnx", "instead of 1",
    ),
    "manifest lists a missing file": (
        write("manifest.json", json.dumps({"files": {"golden.json": {"bytes": 1, "sha256": "0" * 64}}})),
        MISSING, "golden.json", "not found",
    ),
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


def test_no_folder_at_all(tmp_path: Path) -> None:
    error = refusal(tmp_path / "nowhere")
    assert error.reason is MISSING
    assert "nowhere" in error.message


def edit_graph(folder: Path, change: Callable[[Any], None]) -> None:
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    change(model.graph)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def test_an_input_that_we_do_not_know(folder: Path) -> None:
    positions = helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["b", "s"])
    edit_graph(folder, lambda graph: graph.input.append(positions))
    error = refusal(folder)
    assert error.reason is GRAPH
    assert "'position_ids'" in error.message


@pytest.mark.parametrize(
    ("at", "type_", "shape", "words"),
    [
        (0, TensorProto.INT32, ["b", "s"], "tensor(int32)"),
        (1, TensorProto.INT64, ["b"], "1 dimensions"),
        (1, TensorProto.INT64, [1, "t"], "fixed to 1 along axis 0"),
        (2, TensorProto.FLOAT16, ["b", 2, "p", 16], "tensor(float16)"),
        (2, TensorProto.FLOAT, ["b", 3, "p", 16], "is 3 along axis 1, must be 2"),
        (2, TensorProto.FLOAT, ["b", 2, "p", 8], "is 8 along axis 3, must be 16"),
    ],
)
def test_an_input_of_another_shape(
    folder: Path, at: int, type_: int, shape: list[Any], words: str
) -> None:
    def change(graph: Any) -> None:
        graph.input[at].CopyFrom(helper.make_tensor_value_info(graph.input[at].name, type_, shape))

    edit_graph(folder, change)
    error = refusal(folder)
    # onnxruntime itself refuses a graph whose types contradict each other.
    assert error.reason in {GRAPH, INVALID}
    assert error.message.startswith("model.onnx: ")
    if error.reason is GRAPH:
        assert words in error.message


def attentions(graph: Any) -> list[Any]:
    return [node for node in graph.node if node.op_type == "GroupQueryAttention"]


def test_a_graph_that_looks_ahead(folder: Path) -> None:
    """It runs, it answers, and it is wrong: only comparing finds it."""

    def change(graph: Any) -> None:
        for node in attentions(graph):
            node.attribute.append(helper.make_attribute("causal", 0))

    edit_graph(folder, change)
    error = refusal(folder)
    assert error.reason is GRAPH
    assert error.message.startswith("model.onnx: ")


def test_numbers_that_are_not_finite_end_the_start(folder: Path) -> None:
    data = folder / "model.onnx.data"
    data.write_bytes(b"\xff" * data.stat().st_size)
    error = refusal(folder)
    assert error.reason is GRAPH
    assert "not finite" in error.message


@pytest.mark.parametrize("kind", ["prompt", "messages"])
def test_the_golden_prompt_is_answered(folder: Path, kind: str) -> None:
    model, message = load_tiny(TINY_LLAMA), Message("user", "is it?")
    golden: dict[str, Any]
    if kind == "prompt":
        golden = {"prompt": "the router"}
        ids = model.tokenizer.encode("the router")
    else:
        golden = {"messages": [{"role": "user", "content": "is it?"}]}
        ids = model.tokenizer.encode_chat([message], add_generation_prompt=True)
    answer = generate_greedy(model.runner, ids, max_tokens=9, eos_ids=model.info.eos_ids)
    golden |= {"text": model.tokenizer.decode(answer), "max_tokens": 9}
    (folder / "golden.json").write_text(json.dumps(golden))
    said: list[str] = []
    load_model(folder, name="tiny", threads=1, progress=lambda event, fields: said.append(event))
    assert said[-1] == "model.golden"


def test_the_revision_follows_what_decides_the_output(folder: Path) -> None:
    revision = read_artifact(folder).revision
    (folder / "README.md").write_text("a card")
    (folder / "golden.json").write_text('{"prompt": "a", "text": "b"}')
    assert read_artifact(folder).revision == revision
    seen = {revision}
    for name in (
        "genai_config.json",
        "tokenizer_config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "model.onnx.data",
    ):
        with (folder / name).open("ab") as file:
            file.write(b"\n")
        seen.add(read_artifact(folder).revision)
    assert len(seen) == 6


@pytest.mark.parametrize("name", ["model.onnx_data", "model.onnx_data_1", "model.onnx.data.1"])
def test_weights_count_whatever_their_exporter_calls_them(folder: Path, name: str) -> None:
    revisions = {read_artifact(folder).revision}
    for content in (b"one", b"two"):
        (folder / name).write_bytes(content)
        revisions.add(read_artifact(folder).revision)
    assert len(revisions) == 3


def test_a_card_may_differ_from_the_manifest(folder: Path) -> None:
    files = {"README.md": {"bytes": 1, "sha256": "0" * 64}}
    (folder / "manifest.json").write_text(json.dumps({"name": "x", "files": files}))
    read_artifact(folder)


def test_the_template_may_stand_in_the_tokenizer_config(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    assert read_artifact(folder).chat_template is None
    path = folder / "tokenizer_config.json"
    edit_json(path, {"chat_template": "plain", "bos_token": {"content": "<s>"}})
    assert read_artifact(folder).chat_template == "plain"
    assert read_artifact(folder).named_tokens["bos_token"] == "<s>"
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    edit_json(path, {"chat_template": named})
    assert read_artifact(folder).chat_template == "d"
    edit_json(path, {"chat_template": 7})
    with pytest.raises(BadModel, match=r"tokenizer_config\.json: chat_template"):
        read_artifact(folder)


def test_a_slab_that_no_memory_can_hold(folder: Path) -> None:
    config(model__context_length=1 << 40)(folder)
    error = refusal(folder, rows_max=1 << 20, kv_memory_mib=1 << 60)
    assert "lower rows_max or context_max" in error.message


def test_precisions_are_read_from_the_graph() -> None:
    assert precision_of(TINY_LLAMA / "model.onnx") == "fp32"
    assert precision_of(TINY_QWEN2 / "model.onnx") == "fp32"
    assert precision_of(TINY_LLAMA_INT4 / "model.onnx") == "int4-block32"


def test_the_instruction_set(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu avx2 sse avx512_vnni avx512f\n")
    assert instruction_set(cpuinfo).endswith("+avx2+avx512f+avx512_vnni")
    assert "+" not in instruction_set(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("files", "at_most"),
    [
        ({}, 1 << 20),
        ({"cpu.max": "max 100000"}, 1 << 20),
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "150000 100000"}, 1),
        ({"cpu.max": "20000 100000"}, 1),
        ({"cpu.max": "nonsense"}, 1 << 20),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 1 << 20),
    ],
)
def test_cores_are_those_that_we_may_use(
    tmp_path: Path, files: dict[str, str], at_most: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert 1 <= available_cores(tmp_path) <= at_most
    if at_most > 1:
        assert available_cores(tmp_path) == available_cores(tmp_path / "nowhere")
