"""Rows never take more memory than there is: requests wait for it, and what nobody needs is given back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common.errors import InvalidRequest, Reason
from tests.support.engine import make_request, make_sequence
from tests.support.fake_runner import FakeRunner
from tests.support.manual_clock import ManualClock
from tests.support.stepped_engine import SteppedEngine
from worker.engine.config import EngineConfig
from worker.engine.ports import CacheLayout, RowTrim
from worker.engine.row_memory import RowMemory
from worker.engine.sequence import Sequence, StopRule
from worker.engine.stream import TokenStream


def needing(num_tokens: int, slot: int | None = None) -> Sequence:
    sequence = make_sequence(num_tokens, stop=StopRule(max_tokens=num_tokens - 3))
    sequence.slot = slot
    return sequence


def test_one_more_may_begin_when_all_that_it_may_write_fits() -> None:
    memory = RowMemory(CacheLayout(num_slots=4, capacity=100, tokens_max=150))
    assert memory.shortage(needing(100), []) == 0
    assert memory.shortage(needing(50), [needing(100)]) == 0
    assert memory.shortage(needing(51), [needing(100)]) == 1
    without_limit = RowMemory(CacheLayout(num_slots=4, capacity=100))
    assert without_limit.shortage(needing(100), [needing(100)] * 3) == 0


def test_what_former_sequences_have_written_is_given_back_when_it_is_needed() -> None:
    memory = RowMemory(CacheLayout(num_slots=3, capacity=100, tokens_max=150))
    assert memory.trim([needing(100, 0), needing(50, 1)]) == ()
    assert memory.trim([needing(20, 0)]) == (), "still within"
    assert memory.trim([needing(20, 0), needing(60, 1), needing(10, 2)]) == (RowTrim(0, 20),)
    assert memory.trim([needing(20, 0), needing(60, 1), needing(70, 2)]) == ()
    assert memory.trim([needing(90, 0)]) == (RowTrim(1, 0), RowTrim(2, 0))


class Engine:
    """Four rows, memory for so many tokens, and who has begun."""

    def __init__(self, tokens_max: int | None) -> None:
        self.runner = FakeRunner(num_slots=4, capacity=100, tokens_max=tokens_max)
        self.engine = SteppedEngine(self.runner, EngineConfig(preempt_after_s=0), ManualClock())

    def ask(self, need: int, *, priority: int = 0) -> TokenStream:
        return self.engine.submit(replace(make_request(max_tokens=need - 3), priority=priority))

    @property
    def needs(self) -> list[int]:
        """Of those that run."""
        return sorted(s.num_tokens_max for s in self.engine.loop._scheduler._slots.occupants)

    def finish(self) -> None:
        self.engine.step()
        while not self.engine.is_idle:
            self.engine.step()
        assert not self.runner.violations


def test_requests_wait_for_memory_in_their_order() -> None:
    engine = Engine(150)
    for need in (100, 60, 40, 50):
        engine.ask(need)
    engine.engine.step()
    assert engine.needs == [100], "the third would fit, but the second is next"
    while 100 in engine.needs:
        engine.engine.step()
    engine.engine.step()
    assert engine.needs == [40, 50, 60]
    engine.finish()


def test_with_memory_for_all_rows_nobody_waits() -> None:
    engine = Engine(None)
    for need in (100, 60, 40, 50):
        engine.ask(need)
    engine.engine.step()
    assert engine.needs == [40, 50, 60, 100]
    engine.finish()
    assert not any(batch.trims for batch in engine.runner.batches)


def test_a_higher_priority_takes_the_memory_of_one_that_has_enough() -> None:
    engine = Engine(150)
    for need in (30, 90):
        engine.ask(need, priority=1)
    engine.engine.step()
    high = engine.ask(80, priority=3)
    engine.engine.step()
    engine.engine.step()
    assert engine.needs == [30, 80], "30 would not have been enough"
    while not high.has_ended:
        engine.engine.step()
    engine.finish()


def test_many_shapes_never_take_more_than_there_is() -> None:
    """The runner counts what its rows have written; without trims they would come to 400."""
    engine = Engine(120)
    for need in (100, 10, 100, 20, 50, 60, 70, 30, 30, 30, 30, 100, 5, 100):
        engine.ask(need)
    engine.finish()
    assert any(batch.trims for batch in engine.runner.batches)


def test_what_can_never_fit_is_refused_at_once() -> None:
    """The runtime makes no row longer than there is memory for one: it is too long for the context."""
    engine = Engine(120)
    with pytest.raises(InvalidRequest) as refused:
        engine.ask(101)
    assert refused.value.reason is Reason.PROMPT_TOO_LONG
