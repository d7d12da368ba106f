"""Graphs in fp16, as they are exported for CUDA, on the same code by the CPU: how far they are from the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto

from common.errors import BadModel, Reason
from tests.support.half import in_half
from tests.support.numpy_llama import NumpyLlama
from tests.support.tiny_models import (
    TINY_FAMILIES,
    TINY_LLAMA,
    TINY_LLAMA_INT4,
    TINY_LLAMA_INT4_BLOCK64,
    TINY_QWEN2,
    copy_model,
    golden_cases,
    load_tiny,
    make_sequence,
    prefill,
)
from worker.engine.ports import Batch
from worker.runtime.model import LoadedModel, load_model
from worker.runtime.phased import PhasedForward

HALF = 2.0**-11
"""What rounding to fp16 costs once, relative."""


def forced(model: LoadedModel, prompt: list[int], answer: list[int]) -> npt.NDArray[np.float32]:
    """Logits [1 + answer, vocab] after the prompt and after each token of a given answer, decoded one by one."""
    sequence, rows = make_sequence(prompt), []
    batches = list(prefill(sequence, *([len(prompt) // 2] if len(prompt) > 3 else [])))
    for token_id in [*answer, None]:
        for batch in batches:
            rows += [computed.logits[0].copy() for computed in model.runner.compute(batch)]
        if token_id is not None:
            sequence.num_computed_tokens = sequence.num_tokens
            sequence.generated_ids.append(token_id)
            batches = [Batch(decode=(sequence,))]
    return np.stack(rows)


def error(found: npt.NDArray[np.float32], truth: npt.NDArray[np.float64]) -> float:
    """Root mean square of the difference, over the standard deviation of the truth."""
    return float(np.sqrt(np.square(found - truth).mean()) / truth.std())


@pytest.mark.parametrize("folder", TINY_FAMILIES, ids=lambda folder: folder.parent.name)
def test_every_family_stays_close_to_transformers(folder: Path) -> None:
    model = load_tiny(in_half(folder))
    assert isinstance(model.runner.forward, PhasedForward)
    for case in golden_cases(folder.parent.name):
        found = forced(model, case["prompt_ids"], case["greedy_ids"][:-1])
        assert found.dtype == np.float32
        assert error(found[0], np.array(case["first_logits"])) < 24 * HALF
        assert error(found[-1], np.array(case["last_logits"])) < 24 * HALF


@pytest.mark.parametrize("folder", [TINY_LLAMA, TINY_QWEN2], ids=["llama", "qwen2"])
def test_they_compute_what_plain_numpy_computes_from_the_same_weights(folder: Path) -> None:
    """In float64 and without a cache; so what is left is the rounding on the way."""
    model, rng = load_tiny(in_half(folder)), np.random.default_rng(5)
    for length in (1, 2, 17, 60):
        prompt, answer = rng.integers(300, size=length).tolist(), rng.integers(300, size=6).tolist()
        truth = NumpyLlama(in_half(folder)).logits(prompt + answer)[length - 1 :]
        assert 0 < error(forced(model, prompt, answer), truth) < 16 * HALF


def test_quantised_weights_in_fp16_stay_close_to_those_in_fp32() -> None:
    prompt, answer = [*range(7, 47)], [5, 6, 7]
    truth = forced(load_tiny(TINY_LLAMA_INT4), prompt, answer).astype(np.float64)
    assert error(forced(load_tiny(in_half(TINY_LLAMA_INT4)), prompt, answer), truth) < 0.05


@pytest.mark.parametrize("kernels", ["auto", "portable"])
def test_the_fingerprint_says_it_and_our_operators_keep_out(kernels: str) -> None:
    for folder, name in (
        (TINY_LLAMA, "/fp16-kv-fp16/"),
        (TINY_LLAMA_INT4, "/int4-block32-kv-fp16/"),
    ):
        model = load_model(in_half(folder), name="t", threads=1, rows_max=2, kernels=kernels, prefill_int8=True)  # type: ignore[arg-type]  # fmt: skip
        assert name in model.info.fingerprint


@pytest.mark.parametrize(
    ("source", "options", "told"),
    [
        (TINY_LLAMA, {"kernels": "native"}, "does not serve a graph that computes in fp16"),
        (TINY_LLAMA, {"kv_precision": "fp32"}, "kv_precision = fp32"),
        (TINY_LLAMA_INT4_BLOCK64, {"prefill_int8": True}, "mode exact needs a graph in fp32"),
    ],
    ids=["our operators", "other keys and values", "blocks that depend on company"],
)
def test_what_does_not_go_with_them(source: Path, options: dict[str, object], told: str) -> None:
    with pytest.raises(BadModel, match=told) as caught:
        load_model(in_half(source), name="t", threads=1, **options)  # type: ignore[arg-type]
    assert caught.value.reason is Reason.MODEL_GRAPH_UNSUPPORTED


@pytest.mark.parametrize(
    ("tensor", "told"),
    [("logits", "'logits' is tensor"), ("past_key_values.1.value", "past_key_values.1.value")],
)
def test_one_tensor_of_another_precision(tensor: str, told: str, tmp_path: Path) -> None:
    folder = copy_model(in_half(TINY_LLAMA), tmp_path / "mixed")
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for node in (*model.graph.input, *model.graph.output):
        if node.name == tensor:
            node.type.tensor_type.elem_type = TensorProto.FLOAT
    onnx.save(model, folder / "model.onnx")
    with pytest.raises(BadModel, match=told):
        load_model(folder, name="t", threads=1)


def test_bfloat16_is_refused(tmp_path: Path) -> None:
    folder = copy_model(in_half(TINY_LLAMA), tmp_path / "bf16")
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for node in (*model.graph.input, *model.graph.output):
        if node.type.tensor_type.elem_type == TensorProto.FLOAT16:
            node.type.tensor_type.elem_type = TensorProto.BFLOAT16
    onnx.save(model, folder / "model.onnx")
    with pytest.raises(
        BadModel, match=r"is tensor\(bfloat16\), must be tensor\(float\) or tensor\(float16\)"
    ):
        load_model(folder, name="t", threads=1)
