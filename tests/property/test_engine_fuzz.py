"""Random work on the real engine, 5,000 steps on a strict fake that fails on order and on each of three real graphs.

More of it, with other seeds: `make soak`, or LEPTON_FUZZ_STEPS and LEPTON_FUZZ_SEED.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_runner import FakeRunner
from tests.support.fuzz import Fuzz
from tests.support.quantized import in_blocks
from tests.support.repeating import echo
from tests.support.stepped_engine import alone_on
from tests.support.tiny_models import TINY_LLAMA, TINY_LLAMA_INT4, TINY_QWEN2
from worker.engine import beginnings, intake, loop
from worker.engine.loop import EngineLoop
from worker.engine.mailbox import Mailbox
from worker.engine.ports import Batch, CacheLayout, Sampled
from worker.engine.prefix import PrefixCache
from worker.engine.request import EngineRequest
from worker.engine.row_memory import RowMemory
from worker.engine.scheduler import Scheduler
from worker.engine.sequence import Sequence
from worker.engine.slots import SlotTable
from worker.runtime.model import load_model
from worker.runtime.runner import OnnxRunner
from worker.runtime.sampler import Sampler

STEPS = int(os.environ.get("LEPTON_FUZZ_STEPS", "5000"))
CONTROL_SEED = 20261
SEED = int(os.environ.get("LEPTON_FUZZ_SEED", CONTROL_SEED))
LAYOUT = CacheLayout(num_slots=7, capacity=130, tokens_max=400, num_blocks=9)
DRAFTING = replace(LAYOUT, keeps_decoded=True, num_drafted=32)
BREAKS = frozenset({8, 16, 24})
"""Some of the tokens at which `echo` leaves the prompt: with other ends a seed may have none that comes."""


def on_fake(seed: int) -> Fuzz:
    alone = alone_on(FakeRunner(num_slots=1, capacity=LAYOUT.capacity))
    return Fuzz(None, alone, seed=seed, layout=LAYOUT)


def on_fake_with_drafts(seed: int) -> Fuzz:
    alone = alone_on(FakeRunner(num_slots=1, capacity=LAYOUT.capacity, tokens=echo))
    return Fuzz(None, alone, seed=seed, layout=DRAFTING, eos_ids=BREAKS, tokens=echo)


def on_graph(folder: Path, seed: int, *, prefill_int8: bool) -> tuple[Fuzz, Sampler]:
    def load(rows_max: int, prefix_cache_mib: int) -> OnnxRunner:
        return load_model(
            folder, name="tiny", threads=1, rows_max=rows_max, context_max=LAYOUT.capacity,
            prefill_int8=prefill_int8, prefix_cache_mib=prefix_cache_mib,
        ).runner  # fmt: skip

    runner = load(LAYOUT.num_slots, 1)
    assert runner.layout.num_blocks >= LAYOUT.num_blocks
    fuzz = Fuzz(runner, alone_on(load(1, 0)), seed=seed, layout=LAYOUT)
    return fuzz, runner.sampler


FORMS = {
    "llama-fp32": lambda: (TINY_LLAMA, False),
    "llama-int4-prefill-int8": lambda: (TINY_LLAMA_INT4, True),
    "qwen2-int4-block128-as-int8": lambda: (in_blocks(TINY_QWEN2, 128), True),
}


def check_mix(fuzz: Fuzz, *, rows_min: float = 3.0) -> None:
    """A mix in which something never happened proves nothing about it. `rows_min`: a step, on average."""
    if fuzz.seen["steps"] < 5_000:
        return
    for what in ("too long", "queue full", "queue_timeout", "deadline_exceeded", "client_gone", "engine_failed",
                 "model_output_invalid", "length", "stop", "cached tokens", "known tokens",
                 "preempted"):  # fmt: skip
        assert fuzz.seen[what] > 10, what
    assert fuzz.seen["rows"] > rows_min * fuzz.seen["steps"]


@pytest.mark.timeout(3600)
def test_the_books_agree_and_everybody_gets_an_end() -> None:
    fuzz = on_fake(SEED)
    fuzz.play(STEPS)
    check_mix(fuzz)


@pytest.mark.timeout(3600)
def test_the_books_agree_with_drafts_as_well() -> None:
    fuzz = on_fake_with_drafts(SEED)
    fuzz.play(STEPS)
    check_mix(fuzz, rows_min=2.0)  # answers are over in fewer steps
    assert fuzz.num_accepted > 100


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("form", FORMS)
def test_a_real_graph_answers_in_any_company_as_it_does_alone(form: str) -> None:
    folder, prefill_int8 = FORMS[form]()
    fuzz, sampler = on_graph(folder, SEED, prefill_int8=prefill_int8)
    fuzz.play(STEPS)
    check_mix(fuzz)
    assert not sampler._seen, "nothing is kept for those who have ended"


# Negative controls: with any one of these faults in the engine the fuzzer must not come through.


def lose_copies(patch: pytest.MonkeyPatch) -> None:
    compact = SlotTable.compact
    patch.setattr(SlotTable, "compact", lambda table: compact(table)[1:])


def keep_what_a_failed_step_wrote(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PrefixCache, "drop", PrefixCache.commit)


def forget_followers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Sequence, "leave_group", lambda sequence: None)


def forget_to_trim(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RowMemory, "trim", lambda memory, occupants: ())


def forget_who_gave_up_a_row(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EngineLoop, "_note_preempted", lambda loop: None)


def forget_the_report(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Mailbox, "publish", lambda mailbox, report: None)


def share_with_everybody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        beginnings,
        "block_keys",
        lambda ids, salt: tuple(b"%d" % at for at in range(len(ids) // 32)),
    )


def begin_anew(patch: pytest.MonkeyPatch) -> None:
    """What another worker has told already is told again."""
    sequences_of = intake.sequences_of

    def forgetful(request: EngineRequest, *args: Any, **kwargs: Any) -> tuple[Sequence, ...]:
        known = None if request.known_ids is None else dict.fromkeys(request.known_ids, ())
        return sequences_of(replace(request, known_ids=known), *args, **kwargs)

    patch.setattr(loop, "sequences_of", forgetful)


def swallow_deadlines(patch: pytest.MonkeyPatch) -> None:
    """They end in the scheduler, and their readers hear nothing."""
    expire = Scheduler.expire
    patch.setattr(Scheduler, "expire", lambda self, now: expire(self, now)[1:])


def draw_by_company(patch: pytest.MonkeyPatch) -> None:
    run = FakeRunner.run

    def wrong(runner: FakeRunner, batch: Batch) -> list[Sampled]:
        sampled = run(runner, batch)
        if len(batch.decode) < 3:
            return sampled
        return [replace(one, token_id=(one.token_id or 0) ^ 1) for one in sampled]

    patch.setattr(FakeRunner, "run", wrong)


@pytest.mark.parametrize(
    "plant",
    [
        lose_copies, keep_what_a_failed_step_wrote, forget_followers, forget_to_trim, forget_who_gave_up_a_row,
        forget_the_report, share_with_everybody, begin_anew, swallow_deadlines, draw_by_company,
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises((AssertionError, RuntimeError, KeyError)) as caught:
        on_fake(CONTROL_SEED).play(20_000)
    assert f"LEPTON_FUZZ_SEED={CONTROL_SEED}" in caught.value.__notes__[-1]
