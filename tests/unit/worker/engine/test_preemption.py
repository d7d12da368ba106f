"""Who gives up a row for whom, how often, and that nobody but the clock notices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.engine import make_request, make_sequence, read_all, running, until
from tests.support.fake_runner import FakeRunner, fake_completion
from tests.support.manual_clock import ManualClock
from tests.support.stepped_engine import SteppedEngine, tokens_of
from worker.engine.config import EngineConfig
from worker.engine.events import EndEvent, Event, ScheduledEvent, TokenEvent
from worker.engine.preemption import victim_for
from worker.engine.request import EngineRequest
from worker.engine.sequence import Sequence

CONFIG = EngineConfig(preempt_after_s=0)
LOW, NORMAL, HIGH = 1, 2, 3


def decoding(number: int, priority: int, num_generated: int = 1) -> Sequence:
    sequence = make_sequence(number, priority=priority)
    sequence.generated_ids += [7] * num_generated
    return sequence


def request(priority: int, first_id: int, max_tokens: int) -> EngineRequest:
    return replace(make_request((first_id, 2, 3), max_tokens=max_tokens), priority=priority)


class Answers:
    """What the readers of an engine got so far."""

    def __init__(self, runner: FakeRunner, config: EngineConfig = CONFIG) -> None:
        self.engine = SteppedEngine(runner, config, ManualClock())
        self.events: list[list[Event]] = []
        self.streams = []

    def ask(self, asked: EngineRequest) -> int:
        self.streams.append(self.engine.submit(asked))
        self.events.append([])
        return len(self.streams) - 1

    def step(self) -> None:
        self.engine.step()
        for stream, events in zip(self.streams, self.events, strict=True):
            events += self.engine.read(stream)

    def num_tokens(self, number: int) -> int:
        return len(tokens_of(self.events[number], 1)[0])

    def has_ended(self, number: int) -> bool:
        return self.streams[number].has_ended


def test_the_lowest_priority_with_the_fewest_tokens_gives_up_its_row() -> None:
    first = make_sequence(9, priority=HIGH)
    rows = [decoding(1, NORMAL), decoding(2, LOW, 5), decoding(3, LOW, 2), decoding(4, HIGH)]
    assert victim_for(first, rows, config=CONFIG, now=0) is rows[2]
    rows[2].num_preemptions = CONFIG.preemptions_max
    assert victim_for(first, rows, config=CONFIG, now=0) is rows[1], "often enough"
    rows[1].is_continued = True
    assert victim_for(first, rows, config=CONFIG, now=0) is rows[0], "it came from another worker"
    rows[0].known_ids = (7, 7)
    assert victim_for(first, rows, config=CONFIG, now=0) is None, "it computes known tokens"


def test_nobody_gives_up_a_row_for_its_equal_or_before_time() -> None:
    rows = [decoding(1, NORMAL), decoding(2, HIGH)]
    assert victim_for(make_sequence(9, priority=NORMAL), rows, config=CONFIG, now=0) is None
    first, patient = make_sequence(9, priority=HIGH), EngineConfig(preempt_after_s=0.5)
    assert victim_for(first, rows, config=patient, now=0.4) is None
    assert victim_for(first, rows, config=patient, now=0.5) is rows[0]
    never = EngineConfig(preemptions_max=0, preempt_after_s=0)
    assert victim_for(first, rows, config=never, now=9) is None


@pytest.mark.parametrize("keeps_decoded", [False, True])
@pytest.mark.parametrize("num_blocks", [0, 8])
def test_a_preempted_stream_goes_on_where_it_was(*, keeps_decoded: bool, num_blocks: int) -> None:
    """At every point: as if nothing had been, but for the time between two tokens."""
    for until_token in range(1, 40, 3):
        runner = FakeRunner(
            num_slots=1, capacity=200, num_blocks=num_blocks, keeps_decoded=keeps_decoded
        )
        answers = Answers(runner)
        low = answers.ask(request(LOW, 1, 40))
        while answers.num_tokens(low) < until_token:
            answers.step()
        high = answers.ask(request(HIGH, 5, 3))
        while not answers.has_ended(high):
            answers.step()
        assert answers.num_tokens(low) == until_token, "it waited"
        while not answers.has_ended(low):
            answers.step()
        scheduled, *tokens, end = answers.events[low]
        assert isinstance(scheduled, ScheduledEvent)
        assert isinstance(end, EndEvent)
        assert all(isinstance(event, TokenEvent) for event in tokens)
        got = [token_id for token_id, _ in tokens_of(tokens, 1)[0]]
        assert got == fake_completion((1, 2, 3), num_tokens=40)
        assert not runner.violations


def test_low_priority_comes_to_its_end_under_a_flood() -> None:
    """Somebody of a higher priority waits all the time; each is preempted twice at most."""
    runner = FakeRunner(num_slots=2, capacity=200)
    answers = Answers(runner)
    low = answers.ask(request(LOW, 1, 30))
    answers.step()
    steps = 0
    while not answers.has_ended(low):
        waiting = answers.engine.loop.load().waiting
        for number in range(3 - waiting):
            answers.ask(request(HIGH, 10 + number, 6))
        answers.step()
        steps += 1
    # Between its three turns it is passed over at most `overtaken_max` times, each for the length of an answer.
    assert steps <= 3 * (30 + 7 * CONFIG.overtaken_max)
    assert not runner.violations


def test_one_that_is_aborted_while_it_waits_again_ends_once() -> None:
    runner = FakeRunner(num_slots=1, capacity=200)
    answers = Answers(runner)
    low = answers.ask(request(LOW, 1, 40))
    answers.step()
    answers.ask(request(HIGH, 5, 5))
    answers.step()
    answers.engine.abort(answers.streams[low])
    answers.step()
    assert answers.has_ended(low)
    assert runner.released_ids == {1}
    while not answers.engine.is_idle:
        answers.step()
    assert runner.released_ids == {1, 2}


async def test_the_observer_hears_of_it() -> None:
    heard: list[str] = []

    class Observer:
        def on_step(
            self, *, duration_s: float, num_prefill_tokens: int, num_decode_rows: int
        ) -> None: ...

        def on_preemption(self) -> None:
            heard.append("preemption")
            raise ValueError("observers may be wrong")

    runner = FakeRunner(num_slots=1)
    async with running(runner, CONFIG, observer=Observer()) as engine:
        with runner.hold():
            low = engine.submit(request(LOW, 1, 20))
            await until(lambda: bool(runner.batches))
            high = engine.submit(request(HIGH, 5, 2))
        await read_all(high)
        await read_all(low)
    assert heard == ["preemption"]
