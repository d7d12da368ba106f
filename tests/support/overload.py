"""A cluster in virtual time behind one admission line: arrivals in, what became of each out. Same seed, same result.

The workers are `rows` places and one queue behind them; a call takes its tokens over the speed of a row, with noise,
and rows slow each other down. A client leaves at its deadline, wherever its call is. With `protected=False` every
call is sent on at once, as by a router without admission: the negative control.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random

from common.errors import LeptonError, Overloaded
from router.core.admission.demand import Band, Demand
from router.core.admission.limits import AdmissionLimits
from router.core.admission.line import Line
from router.core.admission.waiter import Ticket, Waiter

__all__ = ["Arrival", "Cluster", "Fate", "poisson", "quantile"]

TICK_S = 0.02
UNBOUNDED = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One call of an open-loop client."""

    at: float
    tokens: int = 50
    caller: str = ""
    band: Band = Band.NORMAL
    deadline_s: float = 600.0


@dataclass(slots=True, kw_only=True)
class Fate:
    """What became of it; times in seconds since the start, None where it did not come to that."""

    arrival: Arrival
    admitted_at: float | None = None
    refused_at: float | None = None
    refusal: LeptonError | None = None
    begun_at: float | None = None
    ended_at: float | None = None
    """Completed in time."""
    row_s: float = 0.0
    """Time of a row that it used."""

    @property
    def latency_s(self) -> float:
        """Of a completed call."""
        assert self.ended_at is not None
        return self.ended_at - self.arrival.at

    @property
    def wait_s(self) -> float:
        """Until it had a row."""
        assert self.begun_at is not None
        return self.begun_at - self.arrival.at


def poisson(
    rate: float,
    *,
    seconds: float,
    seed: int,
    start: float = 0.0,
    tokens: tuple[int, int] = (25, 75),
    caller: str = "",
    band: Band = Band.NORMAL,
    deadline_s: float = 600.0,
) -> list[Arrival]:
    """Independent arrivals at `rate` per second, of so many tokens each."""
    random = Random(seed)
    arrivals: list[Arrival] = []
    at = start + random.expovariate(rate)
    while at < start + seconds:
        arrivals.append(
            Arrival(
                at=at,
                tokens=random.randint(*tokens),
                caller=caller,
                band=band,
                deadline_s=deadline_s,
            )
        )
        at += random.expovariate(rate)
    return arrivals


def quantile(values: Iterable[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(slots=True, kw_only=True)
class Cluster:
    """`row_tokens_per_s` is the speed of one row when all are busy; alone it is twice as fast."""

    rows: int = 16
    row_tokens_per_s: float = 50.0
    noise: float = 0.1
    limits: AdmissionLimits = field(default_factory=AdmissionLimits)
    protected: bool = True
    seed: int = 1

    @property
    def calls_per_s(self) -> float:
        """What it completes at most, of calls of 50 tokens."""
        return self.rows * self.row_tokens_per_s / 50

    def run(self, arrivals: Sequence[Arrival]) -> list[Fate]:
        """Until everything has ended; in order of arrival."""
        return _Run(self).through(arrivals)


class _Run:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._random = Random(cluster.seed)
        ahead = max(1, int(cluster.rows * cluster.limits.look_ahead))
        capacity = cluster.rows + ahead if cluster.protected else UNBOUNDED
        self._line = Line(cluster.limits, capacity=capacity)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._now = 0.0
        self._queued: deque[tuple[Fate, Ticket]] = deque()
        self._running: dict[int, tuple[Fate, Ticket]] = {}
        self._ticking = False

    def through(self, arrivals: Sequence[Arrival]) -> list[Fate]:
        ordered = sorted(arrivals, key=lambda arrival: arrival.at)
        fates = [Fate(arrival=arrival) for arrival in ordered]
        for fate in fates:
            self._at(fate.arrival.at, lambda fate=fate: self._arrive(fate))  # type: ignore[misc]
        while self._events:
            self._now, _, act = heapq.heappop(self._events)
            act()
        return fates

    def _at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), act))

    def _arrive(self, fate: Fate) -> None:
        arrival = fate.arrival
        demand = Demand(
            caller=arrival.caller,
            band=arrival.band,
            tokens=arrival.tokens,
            deadline=arrival.at + arrival.deadline_s,
        )
        try:
            offered = self._line.offer(demand, self._now)
        except Overloaded as error:
            fate.refused_at, fate.refusal = self._now, error
            return
        if isinstance(offered, Ticket):
            self._send(fate, offered)
            return
        waiter = offered
        waiter.on_settled = lambda: self._settled(fate, waiter)
        self._at(demand.deadline, lambda: self._line.withdraw(waiter))
        if not self._ticking:
            self._ticking = True
            self._at(self._now + TICK_S, self._tick)

    def _tick(self) -> None:
        self._line.age(self._now)
        self._ticking = bool(self._line.room)
        if self._ticking:
            self._at(self._now + TICK_S, self._tick)

    def _settled(self, fate: Fate, waiter: Waiter) -> None:
        if isinstance(waiter.outcome, Ticket):
            self._send(fate, waiter.outcome)
        else:
            fate.refused_at, fate.refusal = self._now, waiter.outcome

    def _send(self, fate: Fate, ticket: Ticket) -> None:
        fate.admitted_at = self._now
        self._queued.append((fate, ticket))
        self._at(ticket.demand.deadline, lambda: self._client_leaves(fate, ticket))
        self._fill()

    def _fill(self) -> None:
        while self._queued and len(self._running) < self._cluster.rows:
            fate, ticket = self._queued.popleft()
            number = next(self._numbers)
            self._running[number] = (fate, ticket)
            fate.begun_at = self._now
            crowding = len(self._running) / self._cluster.rows
            speed = self._cluster.row_tokens_per_s * (2.0 - crowding)
            service_s = fate.arrival.tokens / speed
            service_s *= self._random.uniform(1 - self._cluster.noise, 1 + self._cluster.noise)
            self._at(self._now + service_s, lambda number=number: self._end(number))  # type: ignore[misc]

    def _end(self, number: int) -> None:
        if number not in self._running:
            return
        fate, ticket = self._running.pop(number)
        assert fate.begun_at is not None
        fate.ended_at = self._now
        fate.row_s = self._now - fate.begun_at
        self._line.release(ticket, self._now, completed=True)
        self._fill()

    def _client_leaves(self, fate: Fate, ticket: Ticket) -> None:
        for number, (other, _) in self._running.items():
            if other is fate:
                del self._running[number]
                assert fate.begun_at is not None
                fate.row_s = self._now - fate.begun_at
                break
        else:
            if (fate, ticket) not in self._queued:
                return
            self._queued.remove((fate, ticket))
        self._line.release(ticket, self._now, completed=False)
        self._fill()
