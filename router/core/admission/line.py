"""One model's tickets and those who wait for one. Pure: time comes in as an argument, nothing sleeps.

    offer ──> Ticket (a row is free)  ──────────────────────────────────────> release
       │                                                                        │
       ├────> Waiter ──> granted: highest band, caller whose turn it is <───────┘
       │          ├────> ageing: a band up          withdrawn: its client went away
       │          └────> refused: too late, out of patience, displaced, flushed
       └────> refused at once: would be late, queue full, too many of this caller

Whoever waits does so because no row is free. Every waiter leaves in exactly one way. A ticket is given out only
while tickets hold fewer rows than `capacity` (the last one may hold several), unless the call had one before (`grant`).
"""

from __future__ import annotations

from typing import Final, final

from common.errors import LeptonError
from router.core.admission import refusals
from router.core.admission.demand import Band, Demand
from router.core.admission.inflow import Inflow
from router.core.admission.limits import AdmissionLimits
from router.core.admission.room import WaitingRoom
from router.core.admission.speed import Speed
from router.core.admission.waiter import Ticket, Waiter

__all__ = ["Line"]

_LEAST_SHARE: Final = 0.05
"""Of the speed, for bands under a flood of higher ones: what is left is not known to the last percent."""

_WAIT_S_LEAST: Final = 0.25
"""Below it a bound in answers means nothing: load reports and timers are not finer."""
_CAUTION: Final = 0.8
"""Of the time that a call may wait, so much may be predicted: a call whose wait was predicted a little too short
would be refused all the same, only later.
"""


@final
class Line:
    """Of one model. `capacity` (rows) is set from outside whenever it is known better; then `advance`."""

    def __init__(self, limits: AdmissionLimits, *, capacity: int) -> None:
        self._limits = limits
        self.capacity = capacity
        self.room = WaitingRoom(limits)
        """Who waits; to be read only."""
        self._speed = Speed()
        self._inflows = {band: Inflow() for band in Band}
        self._rows = 0
        self._tickets = 0

    def __repr__(self) -> str:
        return f"Line({self._rows} of {self.capacity} rows, {self.room!r}, {self._speed!r})"

    @property
    def rows(self) -> int:
        """Held by tickets."""
        return self._rows

    @property
    def rows_per_call(self) -> float:
        """Of the calls that hold tickets, mean; 1 when there are none."""
        return self._rows / self._tickets if self._tickets else 1.0

    @property
    def is_unused(self) -> bool:
        """Nobody waits and nobody holds a ticket."""
        return not self._tickets and not self.room

    # --- from the call's side -----------------------------------------------------------------

    def offer(self, demand: Demand, now: float) -> Ticket | Waiter:
        """A ticket when a row is free, else a place in the line.

        Raises `Overloaded` at once when the call would wait longer than it may, or when there is no place for it.
        """
        self.advance(now)
        if self._rows < self.capacity:
            return self._ticket(demand, now)
        wait_s = self.predicted_wait_s(demand, now)
        self._refuse_hopeless(demand, wait_s, now)
        waiter = self.room.enter(demand, now, drain_s=self._drain_s())
        waiter.predicted_wait_s = wait_s
        self._inflows[demand.band].add(demand.tokens, now)
        return waiter

    def grant(self, demand: Demand, now: float) -> Ticket:
        """A ticket for a call that was accepted before, whether or not a row is free."""
        return self._ticket(demand, now)

    def withdraw(self, waiter: Waiter) -> None:
        """Its client went away; one that is settled is left alone."""
        if waiter.outcome is None:
            self.room.leave(waiter)

    def release(self, ticket: Ticket, now: float, *, completed: bool) -> None:
        """The call has ended. Only those that ended well teach the speed: one that fails at once, or whose client
        left, says nothing of how long work takes.
        """
        demand = ticket.demand
        self._tickets -= 1
        self._rows -= demand.rows
        if completed:
            self._speed.completed(tokens=demand.tokens, rows=demand.rows, held_s=now - ticket.since)
        self.advance(now)

    # --- from the outside ---------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Gives out what is free."""
        while self.room and self._rows < self.capacity:
            waiter = self.room.take()
            waiter.settle(self._too_late(waiter, now) or self._ticket(waiter.demand, now))

    def age(self, now: float) -> None:
        """Refuses who has waited too long, moves up who has waited long; then as `advance`. Who could no longer end in
        time is found at its turn: that costs nobody anything, and asking everybody each time would.
        """
        for waiter in [waiter for waiter in self.room if waiter.until <= now]:
            refusal = self._too_late(waiter, now)
            if refusal is not None:
                self.refuse(waiter, refusal)
        self.room.age(now)
        self.advance(now)

    def refuse(self, waiter: Waiter, error: LeptonError) -> None:
        """One that waits gets no ticket."""
        self.room.leave(waiter)
        waiter.settle(error)

    # --- what is ahead ------------------------------------------------------------------------

    def predicted_wait_s(self, demand: Demand, now: float) -> float | None:
        """How long a call that came now would wait, were it to wait; None while the speed is unknown.

        The work ahead of it over the speed; a band below others gets what these leave, until ageing lifts the call.
        """
        speed = self._tokens_per_s
        if speed is None:
            return None
        next_free = self._speed.tokens_mean  # until the next ticket comes back
        overtaking = sum(
            self._inflows[band].tokens_per_s(now) for band in Band if band < demand.band
        )
        left = max(speed * _LEAST_SHARE, speed - overtaking)
        wait_s = (self.room.tokens_before(demand) + next_free) / left
        if demand.band is Band.HIGH:
            return wait_s
        aged = (self.room.tokens_before(demand, aged=True) + next_free) / speed
        return min(wait_s, demand.band * self._limits.ageing_s + aged)

    @property
    def _tokens_per_s(self) -> float | None:
        """Of all rows together; None while unknown."""
        per_row = self._speed.tokens_per_row_s
        return per_row * self.capacity if per_row and self.capacity > 0 else None

    def _drain_s(self) -> float | None:
        """How long until everybody who waits has gone."""
        speed = self._tokens_per_s
        return None if speed is None else self.room.tokens / speed

    # --- inside -------------------------------------------------------------------------------

    @property
    def _wait_s_max(self) -> float:
        """Longest wait that may be predicted: in proportion to the answers. Who was taken in is not sent away for a
        prediction that was a little short.
        """
        longest_s, answer_s = _CAUTION * self._limits.wait_s_max, self._speed.held_s_mean
        if not answer_s:
            return longest_s
        return min(longest_s, max(_WAIT_S_LEAST, self._limits.wait_answers_max * answer_s))

    def _ticket(self, demand: Demand, now: float) -> Ticket:
        self._tickets += 1
        self._rows += demand.rows
        return Ticket(demand=demand, since=now)

    def _latest_start(self, demand: Demand) -> float:
        """When its work must begin, to end before its deadline."""
        return demand.deadline - self._speed.service_s(tokens=demand.tokens, rows=demand.rows)

    def _refuse_hopeless(self, demand: Demand, wait_s: float | None, now: float) -> None:
        """Raises when the predicted wait is longer than the call may wait."""
        expected_s = wait_s or 0.0
        allowed_s = min(self._wait_s_max, _CAUTION * (self._latest_start(demand) - now))
        patience_s = demand.patience_s
        if patience_s is not None and patience_s <= allowed_s and expected_s >= patience_s:
            raise refusals.out_of_patience(wait_s, patience_s)
        if expected_s > allowed_s:
            raise refusals.would_be_late(wait_s, allowed_s)

    def _too_late(self, waiter: Waiter, now: float) -> LeptonError | None:
        """Why it need not wait any longer, if so: work that cannot end in time is not begun."""
        demand = waiter.demand
        waited_s = now - waiter.arrived_at
        if now >= demand.deadline:
            return refusals.deadline_passed()
        if demand.patience_s is not None and waited_s > demand.patience_s:
            return refusals.out_of_patience(None, demand.patience_s)
        allowed_s = min(waiter.until, self._latest_start(demand)) - waiter.arrived_at
        return refusals.would_be_late(None, allowed_s) if waited_s > allowed_s else None
