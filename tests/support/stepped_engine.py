"""A real `EngineLoop` whose steps a test takes one by one, on its own thread: the same seed gives the same run.

    engine = SteppedEngine(runner, EngineConfig(), ManualClock())
    stream = engine.submit(request)
    while not stream.has_ended:
        engine.step()                  # letters, schedule, run, publish; then every invariant is checked
    events = engine.read(stream)

`check` raises AssertionError or RuntimeError when the books of the engine disagree with one another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from common.clock import Clock
from tests.support.manual_clock import ManualClock
from worker.engine.config import EngineConfig
from worker.engine.events import Event, TokenEvent
from worker.engine.loop import EngineLoop
from worker.engine.ports import ModelRunner
from worker.engine.queue import Waiting
from worker.engine.request import EngineRequest
from worker.engine.sequence import Sequence, SequenceState
from worker.engine.stream import TokenStream

__all__ = ["SteppedEngine", "Token", "alone_on", "tokens_of"]

Token: TypeAlias = tuple[int, float | None]
"""Id and log-probability."""


class SteppedEngine:
    """See the module."""

    def __init__(self, runner: ModelRunner, config: EngineConfig, clock: Clock) -> None:
        self.loop = EngineLoop(runner, config, clock)
        # No thread and no event loop: what the engine hands over is delivered at once.
        self.loop._refusal = None
        self.loop._to_event_loop._event_loop = _AtOnce()  # type: ignore[assignment]
        self._layout = runner.layout

    def submit(self, request: EngineRequest) -> TokenStream:
        """As `EngineLoop.submit`."""
        return self.loop.submit(request)

    def abort(self, stream: TokenStream, choice: int | None = None) -> None:
        """As `EngineLoop.abort`."""
        self.loop.abort(stream, choice)

    def step(self) -> None:
        """One turn of the engine thread, then a look at the books."""
        self.loop.step()
        self.check()

    def read(self, stream: TokenStream) -> list[Event]:
        """Everything that the reader of `stream` could have now."""
        events = [event for step in stream._steps for event in step]
        stream._steps.clear()
        return events

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits or runs."""
        return self.loop._is_idle()

    def check(self) -> None:
        """Slots, queue, prefix cache, keys and values, groups, readers, report."""
        scheduler, streams = self.loop._scheduler, self.loop._streams
        scheduler.check_integrity()
        running = scheduler._slots.occupants
        waiting = scheduler._queue.sequences
        for sequence in running:
            _check_running(sequence, self._layout.capacity)
        for sequence in waiting:
            assert sequence.state is SequenceState.WAITING
            assert (sequence.slot, sequence.num_computed_tokens) == (None, 0)
            assert not sequence.generated_ids or sequence.known_with_prompt
        computed = sum(sequence.num_computed_tokens for sequence in running)
        assert scheduler.kv_usage == computed / self._layout.num_tokens
        needed = sum(sequence.num_tokens_max for sequence in running)
        assert needed <= self._layout.num_tokens
        assert not scheduler._beginnings._cache._pending, "blocks are reserved within a step only"
        # Everybody whom the engine owes an end is there, and nobody else.
        owed = {sequence.id for sequence in (*running, *waiting)}
        assert self.loop._stream_of.keys() == owed
        assert {s for s in streams if not s.has_ended} == streams
        assert set(self.loop._stream_of.values()) <= streams
        letters = Waiting()
        for letter in self.loop._mailbox._letters:
            letters += getattr(letter, "waiting", Waiting())
        report = self.loop._mailbox.report
        assert report.waiting == scheduler.waiting + letters
        assert report.running == len(running)


def _check_running(sequence: Sequence, capacity: int) -> None:
    assert sequence.num_tokens <= capacity
    assert sequence.slot is not None
    if sequence.state is SequenceState.RUNNING:
        assert sequence.num_computed_tokens == sequence.num_tokens - 1
        assert (sequence.leader, sequence.followers) == (None, [])
        return
    assert sequence.state is SequenceState.PREFILLING
    assert sequence.num_tokens == sequence.num_prefill_tokens
    assert sequence.num_computed_tokens < sequence.num_prefill_tokens
    if sequence.leader is not None:
        assert sequence.num_computed_tokens == 0
        assert sequence in sequence.leader.followers
        assert sequence.leader.state is SequenceState.PREFILLING
    for follower in sequence.followers:
        assert follower.leader is sequence
        assert follower.group == sequence.group
        assert follower.state is SequenceState.PREFILLING


def alone_on(runner: ModelRunner) -> Callable[[EngineRequest], list[list[Token]]]:
    """What each choice of a request gets with nobody beside it and nothing known; `runner` has one row."""
    assert (runner.layout.num_slots, runner.layout.num_blocks) == (1, 0)
    engine = SteppedEngine(runner, EngineConfig(), ManualClock())

    def alone(request: EngineRequest) -> list[list[Token]]:
        stream = engine.submit(request)
        while not stream.has_ended:
            engine.step()
        return tokens_of(engine.read(stream), request.n)

    return alone


def tokens_of(events: list[Event], n: int) -> list[list[Token]]:
    """By choice."""
    tokens: list[list[Token]] = [[] for _ in range(n)]
    for event in events:
        if isinstance(event, TokenEvent):
            tokens[event.choice].append((event.token_id, event.logprob))
    return tokens


class _AtOnce:
    """As much of an event loop as the engine needs."""

    def call_soon_threadsafe(self, callback: Callable[[], Any]) -> None:
        callback()

    call_soon = call_soon_threadsafe
