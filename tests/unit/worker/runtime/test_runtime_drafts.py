"""Several tokens of a row verified in one run of a real graph: the same tokens and the same bits as one by one."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.quantized import in_blocks
from tests.support.repeating import Counted, play, random_visits
from tests.support.tiny_models import (
    NEEDS_NATIVE,
    TINY_LLAMA,
    TINY_LLAMA_INT4,
    TINY_QWEN2,
    load_tiny,
    make_sequence,
    prefill,
)
from worker.engine.config import EngineConfig
from worker.engine.ports import Batch, Draft, Sampled
from worker.engine.sequence import Sequence
from worker.runtime import runner as runner_module
from worker.runtime.model import load_model
from worker.runtime.runner import OnnxRunner

ROOM = 120
CONFIG = EngineConfig(
    chunk_tokens_min=4,
    chunk_tokens_first=24,
    chunk_tokens_max=40,
    lookup_ngram=2,
    lookup_streams_max=5,
)
FORMS: dict[str, tuple[Callable[[], Path], dict[str, Any]]] = {
    "llama-fp32": (lambda: TINY_LLAMA, {}),
    "llama-fp32-fp16-keys": (lambda: TINY_LLAMA, {"kv_precision": "fp16"}),
    "llama-int4": (lambda: TINY_LLAMA_INT4, {}),
    "llama-int4-int8-keys": (lambda: TINY_LLAMA_INT4, {"kv_precision": "int8"}),
    "qwen2-int4-block128": (lambda: in_blocks(TINY_QWEN2, 128), {}),
}


def load(form: str, *, rows_max: int = 5, drafted_max: int = 32) -> OnnxRunner:
    folder, options = FORMS[form]
    return load_model(
        folder(), name="tiny", threads=1, rows_max=rows_max, context_max=ROOM, kernels="native",
        prefix_cache_mib=1, drafted_max=drafted_max, **options,
    ).runner  # fmt: skip


def played(form: str, *, num_visits: int = 60) -> tuple[bool, Counted]:
    """Whether anybody got something else with drafts than without; the runner that verified them."""
    visits = random_visits(random.Random(form), num_visits, room=ROOM)
    without, drafting = Counted(load(form, drafted_max=0)), Counted(load(form))
    return play(without, visits, CONFIG) != play(drafting, visits, CONFIG), drafting


@NEEDS_NATIVE
@pytest.mark.parametrize("form", FORMS)
def test_drafts_change_no_token_and_no_bit_of_a_logprob(form: str) -> None:
    is_different, runner = played(form)
    assert not is_different
    assert runner.seen["accepted"] > 100, runner.seen
    assert runner.seen["drafted"] - runner.seen["accepted"] > 100, runner.seen
    assert runner.seen["saved"] > 10, runner.seen


@NEEDS_NATIVE
@pytest.mark.parametrize("form", FORMS)
def test_logits_behind_a_draft_are_those_of_single_steps(form: str) -> None:
    """To the bit, beside a row without a draft, for drafts of every length, over stale keys of rejected ones."""
    runner = load(form)
    rng = random.Random(5)
    rows = [make_sequence([rng.randrange(300) for _ in range(20)], slot=slot) for slot in range(2)]
    for row in rows:
        for batch in prefill(row):
            list(runner.compute(batch))
        row.num_computed_tokens = 20
        row.generated_ids.append(7)
    for size in (1, 2, 7, 8, 9, 20, 1):
        ids = tuple(rng.randrange(300) for _ in range(size))
        batch = Batch(decode=tuple(rows), drafts=(Draft(rows[0], ids),))
        together = {of[0]: logits.copy() for of, logits, _ in runner.compute(batch)}
        assert together[rows[0]].shape[0] == size + 1
        assert together[rows[1]].shape[0] == 1
        for at, token_id in enumerate((*ids, 0)):
            (alone,) = runner.compute(Batch(decode=(rows[0],)))
            assert np.array_equal(alone.logits[0], together[rows[0]][at])
            if at < size:
                rows[0].generated_ids.append(token_id)
                rows[0].num_computed_tokens += 1
        # Some of them are rejected: the next draft is computed over their keys and values.
        kept = rng.randint(0, size)
        del rows[0].generated_ids[len(rows[0].generated_ids) - size + kept :]
        rows[0].num_computed_tokens -= size - kept


@NEEDS_NATIVE
def test_an_acceptance_that_is_broken_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(draft: Draft, draw: Callable[[int], Sampled]) -> list[Sampled]:
        return [
            Sampled(sequence=draft.sequence, token_id=token_id) for token_id in draft.token_ids
        ] + [draw(len(draft.token_ids))]

    monkeypatch.setattr(runner_module, "verify", trusting)
    assert played("llama-fp32", num_visits=20)[0]


@NEEDS_NATIVE
@pytest.mark.parametrize(
    ("draft", "message"),
    [
        (lambda row: Draft(row, ()), "an empty draft"),
        (lambda row: Draft(row, (1,) * 33), "33 tokens of drafts, at most 32"),
        (lambda row: Draft(row, (1,) * 20), "capacity 120"),
        (lambda row: Draft(make_sequence([1]), (1,)), "does not decode"),
    ],
)
def test_a_wrong_draft_is_a_bug_that_is_told(
    draft: Callable[[Sequence], Draft], message: str
) -> None:
    row = make_sequence([1] * 101)
    row.num_computed_tokens = 100
    with pytest.raises(AssertionError, match=message):
        load("llama-fp32").run(Batch(decode=(row,), drafts=(draft(row),)))


def test_onnx_runtimes_operators_verify_none() -> None:
    """A token alone and a token among others are computed by different kernels there."""
    loaded = load_model(
        TINY_LLAMA, name="tiny", threads=1, kernels="portable", context_max=ROOM, drafted_max=32
    )
    assert loaded.runner.layout.num_drafted == 0
    assert load_tiny(TINY_LLAMA).runner.layout.num_drafted == 0
