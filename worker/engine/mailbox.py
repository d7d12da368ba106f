"""What crosses between the event loop and the engine thread: letters in, a report out, under one lock.

The lock is held for list operations only, never during a run, so neither side makes the other wait.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeAlias, final

from worker.engine.config import EngineConfig
from worker.engine.queue import Waiting, check_room
from worker.engine.sequence import Sequence
from worker.engine.speed import Speed
from worker.engine.stream import TokenStream

__all__ = ["Abort", "Arrival", "Letter", "Mailbox", "Report"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A new request and its reader."""

    stream: TokenStream
    sequences: tuple[Sequence, ...]
    is_continued: bool = False
    """Whether another worker began it."""

    @property
    def waiting(self) -> Waiting:
        """What it adds to those that wait."""
        return Waiting(len(self.sequences), sum(s.num_prefill_tokens for s in self.sequences))


@dataclass(frozen=True, slots=True)
class Abort:
    """Nobody wants this sequence any more."""

    sequence: Sequence


Letter: TypeAlias = Arrival | Abort


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the engine thread last said about itself."""

    step: int = 0
    """Steps that have ended."""
    step_ends_at: float | None = None
    """When the running step should end, on the engine's clock; None while idle."""
    running: int = 0
    waiting: Waiting = field(default_factory=Waiting)
    kv_usage: float = 0.0
    speed: Speed = field(default_factory=Speed)


@final
class Mailbox:
    """Bounded: arrivals by `check_room`, here or where they began; aborts because a stream names each sequence once."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._changed = threading.Condition()
        self._letters: list[Letter] = []
        self._on_the_way = Waiting()
        """What the arrivals among the letters add to those that wait in the report."""
        self._report = Report()
        self._is_closed = False

    # --- from the event loop ---

    def check_room(self, added: Waiting) -> None:
        """What `offer` would say now to an arrival that adds that much."""
        with self._changed:
            self._check_room(added)

    def offer(self, arrival: Arrival) -> None:
        """Puts a request in. Raises `Overloaded(QUEUE_FULL)` when those that wait are too many.

        Not when another worker began it: the cluster accepted it there, within the bounds of that worker.
        """
        with self._changed:
            if not arrival.is_continued:
                self._check_room(arrival.waiting)
            self._letters.append(arrival)
            self._on_the_way += arrival.waiting
            self._changed.notify()

    def post(self, aborts: Iterable[Abort]) -> None:
        """Puts aborts in; they are never refused."""
        with self._changed:
            self._letters += aborts
            self._changed.notify()

    @property
    def report(self) -> Report:
        """The last report; what arrived since then counts as waiting."""
        with self._changed:
            return replace(self._report, waiting=self._report.waiting + self._on_the_way)

    def close(self) -> None:
        """Makes `wait` return False from now on."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _check_room(self, added: Waiting) -> None:
        waiting = self._report.waiting + self._on_the_way
        check_room(waiting, added, config=self._config, speed=self._report.speed)

    # --- from the engine thread ---

    def wait(self, *, idle: bool, timeout_s: float | None = None) -> bool:
        """Sleeps while `idle` and no letter is there, no longer than `timeout_s`. Returns False when it is closed."""
        with self._changed:
            if idle:
                self._changed.wait_for(lambda: self._letters or self._is_closed, timeout_s)
            return not self._is_closed

    def linger(self, timeout_s: float) -> None:
        """Waits for a letter, no longer than `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: self._letters or self._is_closed, timeout_s)

    @property
    def is_empty(self) -> bool:
        """Whether no letter is there."""
        with self._changed:
            return not self._letters

    def collect(self) -> list[Letter]:
        """Takes all letters, in order. The reader must queue the arrivals: they count as waiting from here on."""
        with self._changed:
            letters, self._letters = self._letters, []
            self._report = replace(self._report, waiting=self._report.waiting + self._on_the_way)
            self._on_the_way = Waiting()
            return letters

    def publish(self, report: Report) -> None:
        """Replaces the report."""
        with self._changed:
            self._report = report
