"""A call that may have ended a worker, and what is known of that worker."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Protocol, final

from router.core.deaths import Key

__all__ = ["Suspect", "Witness"]


class Witness(Protocol):
    """A worker that was lost with a call on it; `router.core.entry.Tracked` is one."""

    @property
    def key(self) -> Key: ...

    @property
    def is_alive(self) -> bool:
        """It has spoken since: only the connection was lost."""
        ...

    @property
    def is_abandoned(self) -> bool:
        """It was given up, which it stays whatever it says later."""
        ...


@final
class Suspect:
    """One call under suspicion. Made and changed by the quarantine alone."""

    __slots__ = (
        *("fingerprint", "is_waiting", "num_deaths", "place"),
        *("refused", "turn", "wanted", "witnesses"),
    )

    def __init__(
        self, fingerprint: bytes, witnesses: Sequence[Witness], *, num_deaths: int = 0
    ) -> None:
        self.fingerprint = fingerprint
        self.witnesses = list(witnesses)
        """At least one; at most as many as the call has attempts."""
        self.num_deaths = num_deaths
        """Of workers on which it was on probation."""
        self.place: Key | None = None
        """Where it is on probation."""
        self.refused: set[Key] = set()
        """Places that it got and could not use, for it had been there."""
        self.wanted: Collection[Key] = ()
        """Places that it waits for."""
        self.is_waiting = False
        self.turn = asyncio.Event()
        """Set when waiting is over: it has a place, was convicted with its like, or is no suspect any more."""

    def __repr__(self) -> str:
        where = f"on {self.place[0]}" if self.place else "waiting" if self.is_waiting else "free"
        return f"Suspect({self.fingerprint.hex()[:8]}, {where})"
