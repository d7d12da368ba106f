"""One call that its client takes to a worker itself, as the router follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import final

from router.core.endpoint import Endpoint
from router.core.entry import Tracked

__all__ = ["Fate", "Handout"]


class Fate(Enum):
    """How a handout was over."""

    COMPLETED = auto()
    """With the whole answer."""
    ENDED = auto()
    """Otherwise, on the worker: its client left, it was refused, the worker drains."""
    UNUSED = auto()
    """The ticket is too old."""
    LOST = auto()
    """The worker is lost, with the call on it."""
    GONE = auto()
    """Nobody will tell: the worker has left, or this router does."""


@final
class Handout:
    """One call that its client makes itself. Made and changed by `Handouts`, except `is_named`."""

    __slots__ = (
        "closed",
        "endpoint",
        "fate",
        "gives_up_at",
        "is_named",
        "is_redeemed",
        "is_taken",
        "num_moves",
        "number",
        "on_proved",
        "over",
        "report",
        "tracked",
        "used_until",
    )

    def __init__(
        self,
        number: int,
        endpoint: Endpoint,
        tracked: Tracked,
        on_proved: Callable[[], None] | None,
        *,
        num_moves: int,
        used_until: float,
        gives_up_at: float,
    ) -> None:
        self.number = number
        """In the ticket."""
        self.endpoint = endpoint
        self.tracked = tracked
        self.on_proved = on_proved
        """Called when a call on probation has produced something; None for calls that are on none."""
        self.num_moves = num_moves
        """Handouts of the same call before, on workers that live."""
        self.used_until = used_until
        self.gives_up_at = gives_up_at
        self.is_taken = False
        """The worker has the call, as far as is known."""
        self.is_named = False
        """Its client has said that it failed."""
        self.is_redeemed = False
        """What it was given has gone over to another handout of the same call."""
        self.fate: Fate | None = None
        self.over = asyncio.Event()
        """Set together with `fate`."""
        self.closed = asyncio.Event()
        """Everything that follows from it is done."""
        self.report = asyncio.Event()
        """Set by the next report of its worker."""

    def __repr__(self) -> str:
        state = self.fate.name if self.fate else "taken" if self.is_taken else "not used yet"
        return f"Handout({self.number} for {self.endpoint.id}, {state})"

    def settle(self, fate: Fate) -> None:
        """It is over; the first word holds."""
        if self.fate is None:
            self.fate = fate
            self.over.set()
