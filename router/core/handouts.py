"""What was handed out to clients that go to workers themselves: from the ticket to the end of the call. Pure.

    open ──> not used yet ──taken──> with the worker ──ended──> over: COMPLETED or ENDED
                  │                        │
                  └── too old: UNUSED      └── worker lost: LOST, worker or router leaves: GONE

Workers tell how many of the tickets of a router were taken and have ended, not which. So the oldest one is meant: right
in number at any time, and in the mean for how long calls take. Where it matters which one it is, in the search for a
request that ends workers, a worker has at most one such call.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from random import Random
from typing import Final, final

from common.clock import Clock
from router.core.deaths import Key
from router.core.endpoint import Endpoint, TicketCounts
from router.core.entry import Tracked
from router.core.handout import Fate, Handout

__all__ = ["Handouts"]

_OVER_MAX: Final = 4096
"""Calls that are over and may yet come back for another worker; the oldest are forgotten first."""


class _Book:
    """The handouts for one start of one worker, oldest first."""

    __slots__ = ("counts", "taken", "unused")

    def __init__(self, counts: TicketCounts) -> None:
        self.counts = counts
        """As told last."""
        self.unused: dict[Handout, None] = {}
        self.taken: dict[Handout, None] = {}

    def __iter__(self) -> Iterator[Handout]:
        yield from self.unused
        yield from self.taken


@final
class Handouts:
    """Of one router, on one event loop. Times are seconds on `clock`; a ticket may be used for `ticket_s`.

    `moves_max`: how often a call whose worker lives may ask for another one without waiting again.
    """

    def __init__(self, clock: Clock, random: Random, *, ticket_s: float, moves_max: int) -> None:
        self._clock = clock
        self._ticket_s = ticket_s
        self._moves_max = moves_max
        self._books: dict[Key, _Book] = {}
        self._open: dict[int, Handout] = {}
        self._over: OrderedDict[int, Handout] = OrderedDict()
        # Not from 1: a router that starts again under its name must not repeat what its tickets said.
        self._number = random.getrandbits(48)

    def __repr__(self) -> str:
        return f"Handouts({len(self._open)} open, {len(self._books)} workers)"

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def open(
        self,
        endpoint: Endpoint,
        tracked: Tracked,
        *,
        deadline: float,
        num_moves: int = 0,
        on_proved: Callable[[], None] | None = None,
    ) -> Iterator[Handout]:
        """One more, in the books until the block is left. `deadline` is that of the call."""
        now = self._clock.now()
        self._number += 1
        handout = Handout(
            self._number,
            endpoint,
            tracked,
            on_proved,
            num_moves=num_moves,
            used_until=now + self._ticket_s,
            gives_up_at=deadline + self._ticket_s,
        )
        tracked.on_abandon = lambda _: handout.settle(Fate.LOST)
        book = self._books.setdefault(tracked.key, _Book(endpoint.load.tickets))
        book.unused[handout] = None
        self._open[handout.number] = handout
        try:
            yield handout
        finally:
            handout.settle(Fate.GONE)
            book.unused.pop(handout, None)
            book.taken.pop(handout, None)
            # One that has ended left its book before: then another one may have closed it.
            if not (book.unused or book.taken) and self._books.get(tracked.key) is book:
                del self._books[tracked.key]
            del self._open[handout.number]
            self._over[handout.number] = handout
            if len(self._over) > _OVER_MAX:
                self._over.popitem(last=False)

    def find(self, number: int) -> Handout | None:
        """The one with that number, while it is not over."""
        return self._open.get(number)

    def reported(self, key: Key, counts: TicketCounts) -> None:
        """A worker tells how the calls with our tickets have fared."""
        book = self._books.get(key)
        if book is None:
            return
        before, book.counts = book.counts, counts
        for handout in _first(book.unused, counts.taken - before.taken):
            del book.unused[handout]
            book.taken[handout] = None
            handout.is_taken = True
        if counts.proved > before.proved:
            for handout in book:
                if handout.on_proved is not None:
                    handout.on_proved()
                    handout.on_proved = None
        num_ended = counts.ended - before.ended
        num_completed = counts.completed - before.completed
        for place, handout in enumerate(_first(book.taken, num_ended)):
            handout.settle(Fate.COMPLETED if place < num_completed else Fate.ENDED)
            del book.taken[handout]
        for handout in book:
            handout.report.set()

    def sweep(self, there: Collection[Key]) -> None:
        """Called several times a second: `there` are the endpoints that there are."""
        now = self._clock.now()
        for handout in list(self._open.values()):
            tracked = handout.tracked
            if tracked.key not in there:
                lost = not (tracked.is_alive or tracked.is_draining)
                handout.settle(Fate.LOST if lost else Fate.GONE)
            elif not handout.is_taken and now >= handout.used_until:
                handout.settle(Fate.UNUSED)
            elif now >= handout.gives_up_at:
                handout.settle(Fate.GONE)

    def release(self) -> None:
        """The router leaves: whoever streams goes on, and is not counted any more."""
        for handout in list(self._open.values()):
            handout.settle(Fate.GONE)

    def redeem(self, number: int) -> int | None:
        """`num_moves` for the next handout of the same call, which then need not wait again; None when it has to:
        for every handout at most once, for one whose worker lives and stays not more often than `moves_max`.
        """
        handout = self._open.get(number) or self._over.get(number)
        if handout is None or handout.is_redeemed or handout.fate in {Fate.COMPLETED, Fate.UNUSED}:
            return None
        handout.is_redeemed = True
        if not handout.tracked.is_alive or handout.tracked.is_draining:
            return handout.num_moves
        return handout.num_moves + 1 if handout.num_moves < self._moves_max else None

    def check_integrity(self) -> None:
        """For tests: raises `AssertionError` when the books do not agree with each other."""
        booked = [handout for book in self._books.values() for handout in book]
        if len(set(booked)) != len(booked):
            raise AssertionError(f"{self!r}: booked twice")
        if any(self._open.get(handout.number) is not handout for handout in booked):
            raise AssertionError(f"{self!r}: booked and not open")


def _first(handouts: dict[Handout, None], num: int) -> list[Handout]:
    """The oldest so many, those on probation last: they are known by other signs."""
    if num <= 0:
        return []
    ordered = sorted(handouts, key=lambda handout: handout.on_proved is not None)
    return ordered[:num]
