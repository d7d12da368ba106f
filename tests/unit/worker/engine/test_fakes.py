"""The fakes keep their word: a fake runner that notices nothing would prove nothing."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.engine import make_sequence
from tests.support.fake_runner import FakeRunner
from tests.support.manual_clock import ManualClock
from worker.engine.ports import Batch, PrefillChunk, SlotCopy
from worker.engine.sequence import Sequence


def prefilled(runner: FakeRunner, number: int, slot: int, prompt_ids: tuple[int, ...]) -> Sequence:
    sequence = make_sequence(number, prompt_ids=prompt_ids)
    sequence.slot = slot
    runner._rows[slot] = list(prompt_ids)
    runner._computed[number] = len(prompt_ids)
    sequence.num_computed_tokens = len(prompt_ids)
    sequence.generated_ids.append(0)
    return sequence


def test_it_accepts_a_right_copy() -> None:
    runner = FakeRunner()
    sequence = prefilled(runner, 1, slot=2, prompt_ids=(1, 2, 3))
    sequence.slot = 0
    runner.run(Batch(copies=(SlotCopy(2, 0, 3),), decode=(sequence,)))
    assert not runner.violations


@pytest.mark.parametrize(
    ("copies", "complaint"),
    [
        ((), "does not hold"),
        ((SlotCopy(1, 0, 3),), "takes more"),
        ((SlotCopy(2, 0, 2),), "does not hold"),
    ],
    ids=["forgotten", "from the wrong row", "too short"],
)
def test_it_notices_a_wrong_copy(copies: tuple[SlotCopy, ...], complaint: str) -> None:
    runner = FakeRunner()
    sequence = prefilled(runner, 1, slot=2, prompt_ids=(1, 2, 3))
    sequence.slot = 0
    with pytest.raises(AssertionError, match=complaint):
        runner.run(Batch(copies=copies, decode=(sequence,)))
    assert runner.violations


@pytest.mark.parametrize(
    ("start", "end", "complaint"),
    [(0, 3, "odd"), (0, 1, "alone"), (2, 6, "computes from"), (4, 8, "out of its prompt")],
)
def test_it_notices_a_wrong_chunk(start: int, end: int, complaint: str) -> None:
    runner = FakeRunner()
    sequence = make_sequence(1, prompt_ids=(1, 2, 3, 4, 5, 6))
    sequence.slot = 0
    chunk = PrefillChunk(sequence=sequence, start=start, end=end)
    with pytest.raises(AssertionError, match=complaint):
        runner.run(Batch(prefill=(chunk,)))


def test_it_notices_gaps_and_double_releases() -> None:
    runner = FakeRunner()
    sequence = prefilled(runner, 1, slot=1, prompt_ids=(1,))
    with pytest.raises(AssertionError, match="gaps"):
        runner.run(Batch(decode=(sequence,)))
    runner.release(sequence)
    with pytest.raises(AssertionError, match="twice"):
        runner.release(sequence)
    with pytest.raises(AssertionError, match="never had a slot"):
        runner.release(make_sequence(2))


async def test_a_manual_clock_wakes_sleepers_in_order_and_not_before() -> None:
    clock = ManualClock(now=0.0)
    woken: list[float] = []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    async with asyncio.TaskGroup() as group:
        for seconds in (3.0, 1.0):
            group.create_task(sleeper(seconds))
        await clock.wait_for_sleepers(2)
        clock.advance(2)
        assert (clock.now(), clock.num_sleepers) == (2.0, 1)
        clock.advance(1)
    await clock.sleep(0)
    assert woken == [1.0, 3.0]


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = ManualClock()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await clock.sleep(5)
    assert clock.num_sleepers == 0
    clock.advance(10)
