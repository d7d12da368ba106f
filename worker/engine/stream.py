"""From the engine thread to one reader: the events of a request.

The engine hands over the events of all streams once per step. A stream holds them until its reader asks and
never makes the engine wait. It is bounded by construction: a choice has at most `max_tokens` + 2 events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf

from common.errors import LeptonError
from worker.engine.events import Event, FailedEvent, is_terminal
from worker.engine.sequence import Sequence

__all__ = ["TokenStream"]


class TokenStream:
    """Made by `EngineLoop.submit`; everything here happens on the event loop. For one reader."""

    def __init__(self, sequences: SequenceOf[Sequence]) -> None:
        self._sequences = {sequence.choice: sequence for sequence in sequences}
        self._open = set(self._sequences)
        """Choices without a terminal event so far."""
        self._abortable = set(self._sequences)
        """Open choices for which nobody has asked the engine to stop."""
        self._events: list[Event] = []
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<TokenStream open={sorted(self._open)} unread={len(self._events)}>"

    @property
    def n(self) -> int:
        """Choices of the request."""
        return len(self._sequences)

    @property
    def has_ended(self) -> bool:
        """Whether every choice has its terminal event (read or not)."""
        return not self._open

    async def next(self) -> tuple[Event, ...]:
        """All events that came since the last call, at least one; () after the end.

        *Resources*: none; who stops reading before the end calls `EngineLoop.abort`, or the engine goes on computing.
        *Errors*: none are raised; failures are `FailedEvent`s.
        *Cancellation*: leaves the stream as it was.
        """
        while not self._events:
            if not self._open:
                return ()
            self._changed.clear()
            await self._changed.wait()
        events = tuple(self._events)
        self._events.clear()
        return events

    def push(self, events: SequenceOf[Event]) -> None:
        """Appends events, in order. Those of a choice that has ended are late output and are dropped."""
        for event in events:
            if event.choice in self._open:
                self._events.append(event)
                if is_terminal(event):
                    self._open.discard(event.choice)
                    self._abortable.discard(event.choice)
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
