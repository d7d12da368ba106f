"""The order inside one band: deficit round robin between callers, first come first served within each.

Each caller in turn may spend a quantum of tokens; what it does not spend it keeps for its next turn, as long as it has
calls waiting. So of two callers that always wait neither gets more than a quantum and two of the largest calls
ahead of the other, however many calls it sends and however large they are. (M. Shreedhar, G. Varghese, 1995.)
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator
from math import ceil
from typing import final

from router.core.admission.waiter import Waiter

__all__ = ["FairBand"]


@final
class _Share:
    """One caller's waiting calls in this band, oldest first."""

    __slots__ = ("caller", "deficit", "is_served", "tokens", "waiters")

    def __init__(self, caller: str | None) -> None:
        self.caller = caller
        self.waiters: deque[Waiter] = deque()
        self.tokens = 0
        """Of all of them."""
        self.deficit = 0
        """What it may still spend."""
        self.is_served = False
        """Has got its quantum of this turn."""

    @property
    def short_of(self) -> int:
        """Tokens that its first call lacks; 0 or less when it may go."""
        return self.waiters[0].demand.tokens - self.deficit


@final
class FairBand:
    """`quantum` is in tokens."""

    def __init__(self, quantum: int) -> None:
        self._quantum = quantum
        self._shares: dict[str | None, _Share] = {}
        self._ring: deque[_Share] = deque()
        self._entered: dict[Waiter, None] = {}
        """In order of entry."""
        self.tokens = 0
        """Of all that wait here."""

    def __repr__(self) -> str:
        return f"FairBand({len(self)} of {len(self._shares)} callers)"

    def __len__(self) -> int:
        return len(self._entered)

    def __iter__(self) -> Iterator[Waiter]:
        """In order of entry, the one that has been here longest first."""
        return iter(self._entered)

    def add(self, waiter: Waiter) -> None:
        """Behind all older calls of its caller."""
        share = self._shares.get(waiter.caller)
        if share is None:
            share = self._shares[waiter.caller] = _Share(waiter.caller)
            self._ring.append(share)
        if share.waiters and share.waiters[-1].number > waiter.number:
            insort(share.waiters, waiter, key=lambda other: other.number)
        else:
            share.waiters.append(waiter)
        share.tokens += waiter.demand.tokens
        self.tokens += waiter.demand.tokens
        self._entered[waiter] = None

    def remove(self, waiter: Waiter) -> None:
        """It waits here no longer."""
        share = self._shares[waiter.caller]
        if share.waiters[0] is waiter:
            share.waiters.popleft()
        else:
            share.waiters.remove(waiter)
        share.tokens -= waiter.demand.tokens
        self.tokens -= waiter.demand.tokens
        del self._entered[waiter]
        if not share.waiters:
            del self._shares[waiter.caller]
            self._ring.remove(share)

    def take(self) -> Waiter:
        """Removes and returns whose turn it is; the band must not be empty."""
        passed = 0
        while True:
            share = self._ring[0]
            if not share.is_served:
                share.is_served = True
                share.deficit += self._quantum
            if share.short_of <= 0:
                waiter = share.waiters[0]
                share.deficit -= waiter.demand.tokens
                self.remove(waiter)
                return waiter
            share.is_served = False
            self._ring.rotate(-1)
            passed += 1
            if passed == len(self._ring):
                self._skip_rounds()

    def _skip_rounds(self) -> None:
        """Everybody was asked and nobody can go: gives out at once all rounds but the one in which somebody can."""
        rounds = min(ceil(share.short_of / self._quantum) for share in self._ring) - 1
        for share in self._ring:
            share.deficit += rounds * self._quantum

    def tokens_of(self, caller: str | None) -> int:
        """Of all that wait under that name."""
        share = self._shares.get(caller)
        return share.tokens if share is not None else 0

    def tokens_before(self, caller: str | None, tokens: int) -> int:
        """What will be taken before a new call of `caller` with so many tokens: all of its own, and of everybody else
        as much as it gets itself until then.
        """
        own = self.tokens_of(caller)
        return own + sum(
            min(share.tokens, own + tokens) for share in self._ring if share.caller != caller
        )

    def last_of_longest(self) -> Waiter:
        """The newest call of the caller with the most tokens waiting; the band must not be empty."""
        return max(self._ring, key=lambda share: share.tokens).waiters[-1]
