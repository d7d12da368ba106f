"""From the engine thread to one reader: the events of a request.

The engine hands over the events of all streams once per step. A stream holds them until its reader asks and
never makes the engine wait. It is bounded by construction: a choice has at most `max_tokens` + 2 events. What a reader
gets at once is bounded, too: it goes out as one message, and peers refuse messages over 4 MiB.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from typing import Final

from common.errors import LeptonError
from worker.engine.events import Event, FailedEvent, is_terminal
from worker.engine.sequence import Sequence

__all__ = ["EVENTS_AT_ONCE", "TokenStream"]

EVENTS_AT_ONCE: Final = 1024
"""A reader that fell behind gets whole steps until it has so many events. With 20 log-probabilities each they take
about 0.3 MB."""


class TokenStream:
    """Made by `EngineLoop.submit`; everything here happens on the event loop. For one reader."""

    def __init__(self, sequences: SequenceOf[Sequence]) -> None:
        self._sequences = {sequence.choice: sequence for sequence in sequences}
        self._open = set(self._sequences)
        """Choices without a terminal event so far."""
        self._abortable = set(self._sequences)
        """Open choices for which nobody has asked the engine to stop."""
        self._steps: deque[tuple[Event, ...]] = deque()
        """What was not read, as it was pushed; none of them empty."""
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<TokenStream open={sorted(self._open)} unread={sum(map(len, self._steps))}>"

    @property
    def n(self) -> int:
        """Choices of the request."""
        return len(self._sequences)

    @property
    def has_ended(self) -> bool:
        """Whether every choice has its terminal event (read or not)."""
        return not self._open

    async def next(self) -> tuple[Event, ...]:
        """The events that came since the last call, at least one; () after the end.

        Of very many the oldest `EVENTS_AT_ONCE`, or a few more: events that were pushed together stay together.

        *Resources*: none; who stops reading before the end calls `EngineLoop.abort`, or the engine goes on computing.
        *Errors*: none are raised; failures are `FailedEvent`s.
        *Cancellation*: leaves the stream as it was.
        """
        while not self._steps:
            if not self._open:
                return ()
            self._changed.clear()
            await self._changed.wait()
        events: list[Event] = []
        while self._steps and len(events) < EVENTS_AT_ONCE:
            events += self._steps.popleft()
        return tuple(events)

    def push(self, events: SequenceOf[Event]) -> None:
        """Appends events, in order. Those of a choice that has ended are late output and are dropped."""
        taken = []
        for event in events:
            if event.choice in self._open:
                taken.append(event)
                if is_terminal(event):
                    self._open.discard(event.choice)
                    self._abortable.discard(event.choice)
        if taken:
            self._steps.append(tuple(taken))
            self._changed.set()

    def fail(self, make_error: Callable[[], LeptonError], at: float) -> None:
        """Ends every open choice, each with an error of its own: an exception that is raised twice is a muddle."""
        self.push(
            [FailedEvent(choice=choice, error=make_error(), at=at) for choice in sorted(self._open)]
        )

    def take_abortable(self, choice: int | None) -> list[Sequence]:
        """The open sequences (of one choice, or all) that the engine should stop; each is named only once."""
        chosen = self._abortable if choice is None else self._abortable & {choice}
        self._abortable = self._abortable - chosen
        return [self._sequences[index] for index in sorted(chosen)]
