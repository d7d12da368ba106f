"""Everybody who waits for one model: bands of fair shares, within bounds of count, bytes and callers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, count
from math import inf
from typing import final

from router.core.admission import refusals
from router.core.admission.demand import Band, Demand
from router.core.admission.fair_band import FairBand
from router.core.admission.limits import AdmissionLimits
from router.core.admission.waiter import Waiter

__all__ = ["WaitingRoom"]


@final
class WaitingRoom:
    """Who is in it leaves by `take` or `leave`; nobody is settled here but those whom a newcomer displaces."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self._bands = {band: FairBand(limits.quantum) for band in Band}
        self._numbers = count()
        self._num_of_caller: dict[str | None, int] = {}
        self.num_bytes = 0
        """Held by all of them."""

    def __repr__(self) -> str:
        return f"WaitingRoom({', '.join(f'{b.name}: {len(q)}' for b, q in self._bands.items())})"

    def __len__(self) -> int:
        return sum(len(band) for band in self._bands.values())

    def __bool__(self) -> bool:
        return bool(self._num_of_caller)

    def __iter__(self) -> Iterator[Waiter]:
        """By band, within it in order of entry."""
        return chain.from_iterable(self._bands.values())

    @property
    def tokens(self) -> int:
        """Of all of them."""
        return sum(band.tokens for band in self._bands.values())

    def num_in(self, band: Band) -> int:
        return len(self._bands[band])

    def tokens_before(self, demand: Demand, *, aged: bool = False) -> int:
        """Work that would be taken before a call that came now, if nobody came later. `aged`: if it were in the
        highest band already, and all others of its band with it.
        """
        caller = self._name_of(demand.caller)
        higher = [self._bands[band] for band in Band if band < demand.band]
        own = self._bands[demand.band].tokens_before(caller, demand.tokens)
        if aged:
            return own + sum(band.tokens_before(caller, demand.tokens) for band in higher)
        return own + sum(band.tokens for band in higher)

    def enter(self, demand: Demand, now: float, *, drain_s: float | None) -> Waiter:
        """The last place of its caller in its band. Raises `Overloaded` when there is none, with a hint made of
        `drain_s`, the seconds in which everybody will have gone.
        """
        caller = self._name_of(demand.caller)
        self._make_room(demand, caller, drain_s)
        patience_s = inf if demand.patience_s is None else demand.patience_s
        waiter = Waiter(
            demand=demand,
            number=next(self._numbers),
            caller=caller,
            arrived_at=now,
            band=demand.band,
            band_since=now,
            until=min(demand.deadline, now + min(patience_s, self._limits.wait_s_max)),
        )
        self._num_of_caller[caller] = self._num_of_caller.get(caller, 0) + 1
        self.num_bytes += demand.num_bytes
        self._bands[waiter.band].add(waiter)
        return waiter

    def take(self) -> Waiter:
        """Removes and returns who is next; there must be somebody."""
        waiter = next(band for band in self._bands.values() if len(band)).take()
        self._forget(waiter)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """It goes without its turn."""
        self._bands[waiter.band].remove(waiter)
        self._forget(waiter)

    def age(self, now: float) -> None:
        """Who has been in a band for `ageing_s` moves one up, so that nobody waits for ever behind higher ones."""
        for band in (Band.NORMAL, Band.LOW):
            while (waiter := next(iter(self._bands[band]), None)) is not None:
                if now - waiter.band_since < self._limits.ageing_s:
                    break
                self._bands[band].remove(waiter)
                waiter.band, waiter.band_since = Band(band - 1), now
                self._bands[waiter.band].add(waiter)

    # --- inside -------------------------------------------------------------------------------

    def _name_of(self, caller: str) -> str | None:
        known = caller in self._num_of_caller or len(self._num_of_caller) < self._limits.callers_max
        return caller if known else None

    def _make_room(self, demand: Demand, caller: str | None, drain_s: float | None) -> None:
        """A full room is no reason to refuse somebody who would be served before others: then the newest call of the
        longest share in the lowest band has to go.
        """
        num_of_caller = self._num_of_caller.get(caller, 0)
        if num_of_caller >= self._limits.waiting_of_caller_max:
            raise refusals.caller_full(num_of_caller, drain_s)
        while (
            len(self) >= self._limits.waiting_max
            or self.num_bytes + demand.num_bytes > self._limits.waiting_bytes_max
        ):
            full = refusals.queue_full(len(self), self.num_bytes, drain_s)
            victim = self._displaced_by(demand, caller)
            if victim is None:
                raise full
            self.leave(victim)
            victim.settle(full)

    def _displaced_by(self, demand: Demand, caller: str | None) -> Waiter | None:
        lowest = max((band for band in Band if len(self._bands[band])), default=None)
        if lowest is None or lowest < demand.band:
            return None
        band = self._bands[lowest]
        victim = band.last_of_longest()
        if lowest == demand.band:
            ours = band.tokens_of(caller) + demand.tokens
            if ours >= band.tokens_of(victim.caller):
                return None
        return victim

    def _forget(self, waiter: Waiter) -> None:
        """What `enter` counted, the band aside."""
        self.num_bytes -= waiter.demand.num_bytes
        left = self._num_of_caller[waiter.caller] - 1
        if left:
            self._num_of_caller[waiter.caller] = left
        else:
            del self._num_of_caller[waiter.caller]
