"""The gate in front of the workers: one context around each call, one line per model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, final

from common.clock import Clock
from common.errors import LeptonError, Reason
from router.core.admission import refusals
from router.core.admission.demand import Band, Demand
from router.core.admission.limits import AdmissionLimits
from router.core.admission.model_line import ModelLine
from router.core.admission.waiter import Ticket, Waiter
from router.core.call import Call, RoutingView
from router.core.endpoint import Endpoint
from router.core.pool import EndpointPool
from router.core.ports import AdmissionObserver
from router.core.resolve import resolve
from router.core.route import Route
from router.core.waiting import happens_within

__all__ = ["Admission"]

_TICK_S: Final = 0.02
"""How often those who wait are looked at: how late a change of load or the end of a wait may be noticed."""

KnownBytes = Callable[[RoutingView, Sequence[Endpoint]], int]
"""As `router.core.policy.api.Policy.known_bytes`."""


@final
class Admission:
    """One per router process, on one event loop.

    Resources: none; `run` belongs to whoever owns the router's tasks. Cancellation: a call that is cancelled while it
    waits leaves the line at once.
    """

    def __init__(
        self,
        *,
        pool: EndpointPool,
        limits: AdmissionLimits,
        observer: AdmissionObserver,
        clock: Clock,
        known_bytes: KnownBytes = lambda _view, _endpoints: 0,
    ) -> None:
        """`known_bytes`: see `Policy`. What is cached is no work: it is taken off what a call asks for."""
        self._pool = pool
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._known_bytes = known_bytes
        self._lines: dict[str, ModelLine] = {}
        self._somebody_waits = asyncio.Event()
        self._in_flight = 0
        self._refusing = False
        self.idle = asyncio.Event()
        """Set while no call is in flight."""
        self.idle.set()

    def __repr__(self) -> str:
        refusing = ", refusing" if self._refusing else ""
        return f"Admission(in_flight={self._in_flight}{refusing}, {list(self._lines.values())})"

    @property
    def in_flight(self) -> int:
        """Calls that wait or are being served."""
        return self._in_flight

    @property
    def is_refusing(self) -> bool:
        """Whether `refuse_new` was called."""
        return self._refusing

    def num_waiting(self, band: Band) -> int:
        """Calls in that band, over all models."""
        return sum(model.line.room.num_in(band) for model in self._lines.values())

    @asynccontextmanager
    async def admitted(
        self, view: RoutingView, call: Call, route: Route, *, accepted_before: bool = False
    ) -> AsyncIterator[None]:
        """The context around a whole call, retries and migrations included. A call that was `accepted_before` does not
        wait again.

        Entering returns when the call may go on to a worker: at once, in the same turn of the loop, when a row is free.
        It raises `Unavailable(DRAINING, NO_WORKER)`, `DeadlineExceeded` or `Overloaded(QUEUE_FULL, CALLER_QUEUE_FULL,
        QUEUE_TIMEOUT, WOULD_BE_LATE)`. A model that nobody serves is no matter of admission: the call goes on and is
        told so.
        """
        try:
            self._count_in()
        except LeptonError as error:
            self._observer.refused(error)
            raise
        try:
            async with self._ticket(view, call, route, accepted_before=accepted_before):
                yield
        finally:
            self._count_out()

    def refuse_new(self) -> None:
        """From now on every new call is refused with `Unavailable(DRAINING)`, and so are those that wait."""
        self._refusing = True
        for model in self._lines.values():
            for waiter in list(model.line.room):
                model.line.refuse(waiter, refusals.draining())

    async def run(self) -> None:
        """Looks after those who wait, until cancelled."""
        while True:
            await self._somebody_waits.wait()
            await happens_within(self._pool.changed(), _TICK_S, self._clock)
            now = self._clock.now()
            for model in list(self._lines.values()):
                model.look_after(now)
            if not any(model.line.room for model in self._lines.values()):
                self._somebody_waits.clear()

    # --- inside -------------------------------------------------------------------------------

    def _count_in(self) -> None:
        if self._refusing:
            raise refusals.draining()
        if self._in_flight >= self._limits.in_flight_max:
            raise refusals.in_flight_full(self._in_flight)
        self._in_flight += 1
        self.idle.clear()

    def _count_out(self) -> None:
        self._in_flight -= 1
        if self._in_flight == 0:
            self.idle.set()

    def _line_for(self, view: RoutingView) -> ModelLine | None:
        """The line of the model that is meant; None where nothing can be waited for: a model that nobody serves or
        expects, and calls that take no row, or have theirs already.
        """
        if not view.cost.rows or view.only_holder:
            return None
        try:
            name = resolve(view, self._pool.snapshot())[0].model
        except LeptonError as error:
            may_come = not self._pool.has_heard or self._pool.remembers(view.model)
            if error.reason is not Reason.MODEL_NOT_FOUND or not may_come:
                return None
            name = view.model
        now = self._clock.now()
        model = self._lines.get(name)
        if model is None:
            model = self._lines[name] = ModelLine(name, self._pool, self._limits, now=now)
        model.measure(now)
        return model

    @asynccontextmanager
    async def _ticket(
        self, view: RoutingView, call: Call, route: Route, *, accepted_before: bool
    ) -> AsyncIterator[None]:
        """A ticket of the call's model for the length of the block, where there is anything to have one for."""
        model = self._line_for(view)
        if model is None:
            yield
            return
        known_bytes = self._known_bytes(view, model.endpoints)
        demand = Demand.of(view, call, known_bytes=known_bytes)
        try:
            ticket = (
                model.line.grant(demand, self._clock.now())
                if accepted_before
                else await self._offered(model, demand, route)
            )
        except LeptonError as error:
            self._observer.refused(error)
            raise
        self._observer.admitted(route, view)
        completed = False
        try:
            yield
            completed = True
        finally:
            self._give_back(model, ticket, completed=completed)

    async def _offered(self, model: ModelLine, demand: Demand, route: Route) -> Ticket:
        offered = model.line.offer(demand, self._clock.now())
        if isinstance(offered, Ticket):
            return offered
        self._somebody_waits.set()
        with self._observer.queueing(route, offered.predicted_wait_s):
            try:
                return await _settled(offered)
            except BaseException:
                model.line.withdraw(offered)
                if isinstance(offered.outcome, Ticket):  # cancelled in the moment of its turn
                    self._give_back(model, offered.outcome, completed=False)
                raise
            finally:
                route.queued_s = self._clock.now() - offered.arrived_at

    def _give_back(self, model: ModelLine, ticket: Ticket, *, completed: bool) -> None:
        model.line.release(ticket, self._clock.now(), completed=completed)
        if model.is_obsolete:
            self._lines.pop(model.name, None)


async def _settled(waiter: Waiter) -> Ticket:
    """The ticket of one that waits; raises what it was refused with."""
    settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not settled.done():
            settled.set_result(None)

    waiter.on_settled = wake
    await settled
    if isinstance(waiter.outcome, Ticket):
        return waiter.outcome
    raise waiter.outcome or AssertionError("settled without an outcome")
