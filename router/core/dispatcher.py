"""The way of a call: admit → place → relay → (retry while nothing was sent, migrate afterwards).

Every accepted call ends in exactly one of: the worker's `Finished` bytes returned, or one `LeptonError` raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final, TypeVar, final

from common.clock import Clock
from common.errors import LeptonError, Quarantined, Reason, Unavailable
from common.request.migration import Break, MigrationLimits, break_of, decide_migration
from router.core.admission.gate import Admission
from router.core.call import Call, RoutingView
from router.core.direct import DirectCalls
from router.core.endpoint import Endpoint
from router.core.entry import Tracked
from router.core.exchange import Exchange, Proved, StreamExchange, UnaryExchange
from router.core.handouts import Handouts
from router.core.journey import Journey, Origin
from router.core.placement import Placement
from router.core.policy.api import Policy
from router.core.pool import EndpointPool
from router.core.ports import GenerateCodec, RouteObserver, WorkerClient, Write
from router.core.probation import Probation
from router.core.quarantine import Quarantine, QuarantineLimits
from router.core.retry import RetryBudget, RetryLimits, decide
from router.core.route import Route

__all__ = ["DispatchLimits", "Dispatcher"]

T = TypeVar("T")

_RETRY_AFTER_S: Final = 1.0
"""Hint to refused callers: about the time in which load streams and registry catch up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchLimits:
    """Bounds of the dispatcher."""

    wait_for_worker_s_max: float
    """Longest wait for a worker of a known model to become ready."""
    retry: RetryLimits
    migration: MigrationLimits
    quarantine: QuarantineLimits
    transcript_bytes_max: int = 64 << 10
    """Memory for unread messages, per stream."""
    death_verdict_s: float = 1.0
    """Longest wait for a sign of life before a worker's loss is called its death, where somebody is convicted of it."""
    ticket_s: float = 5.0
    """How long a worker takes the ticket of a call that is not relayed, seconds."""


@final
class Dispatcher:
    """One per router process, used by every surface, on one event loop.

    Resources: none of its own; in-flight counts are exact after every exit. Errors: see each method.
    Cancellation: cancels the call on the worker at once and passes.
    """

    def __init__(
        self,
        *,
        pool: EndpointPool,
        admission: Admission,
        policy: Policy,
        worker: WorkerClient,
        codec: GenerateCodec,
        observer: RouteObserver,
        limits: DispatchLimits,
        clock: Clock,
        aliases: Collection[str] = (),
    ) -> None:
        """`aliases`: names that callers may use beside those of models, for what errors list."""
        self._pool = pool
        self._admission = admission
        self._worker = worker
        self._codec = codec
        self._observer = observer
        self._limits = limits
        self._clock = clock
        self._budget = RetryBudget(limits.retry, now=clock.now())
        self._quarantine = Quarantine(limits.quarantine, clock)
        self._probation = Probation(self._quarantine, pool, clock, verdict_s=limits.death_verdict_s)
        self._placement = Placement(
            pool=pool,
            policy=policy,
            probation=self._probation,
            clock=clock,
            wait_s_max=limits.wait_for_worker_s_max,
            aliases=aliases,
        )
        self.direct = DirectCalls(
            pool=pool,
            admission=admission,
            placement=self._placement,
            probation=self._probation,
            handouts=Handouts(
                clock, Random(), ticket_s=limits.ticket_s, moves_max=limits.migration.migrations_max
            ),
            observer=observer,
            clock=clock,
            news_s_max=limits.death_verdict_s,
        )
        """Calls that clients take to a worker themselves."""
        self._running: set[asyncio.Timeout] = set()
        """One per call in flight: what `cut` ends it with."""

    def __repr__(self) -> str:
        return f"Dispatcher({self._admission!r})"

    @property
    def in_flight(self) -> int:
        """Calls that wait or are being served."""
        return self._admission.in_flight

    @property
    def num_suspects(self) -> int:
        """Calls under suspicion of having ended a worker."""
        return self._quarantine.num_suspects

    async def generate(
        self, payload: bytes, view: RoutingView, call: Call, write: Write, route: Route
    ) -> bytes:
        """Relays one Generate, message for message, and returns the worker's serialised `Finished`.

        Raises `Unavailable(DRAINING, NO_WORKER, STARTING, WORKER_LOST, REVISION_GONE)`, `Overloaded`, `NotFound`,
        `InvalidRequest`, `DeadlineExceeded`, `Quarantined`, or the worker's own error. What `write` raises passes
        through.
        """
        exchange = StreamExchange(
            payload,
            call,
            write,
            route,
            worker=self._worker,
            codec=self._codec,
            clock=self._clock,
            transcript_bytes_max=self._limits.transcript_bytes_max,
            continues=self._limits.migration.migrations_max > 0,
        )
        return await self._serve(view, call, route, exchange)

    async def unary(
        self, method: str, payload: bytes, view: RoutingView, call: Call, route: Route
    ) -> bytes:
        """Relays a call with one response message; raises as `generate` does."""
        exchange = UnaryExchange(method, payload, call, worker=self._worker)
        return await self._serve(view, call, route, exchange)

    def refuse_new(self) -> None:
        """From now on every call that is new or waits is refused with `Unavailable(DRAINING)`; running ones go on, and
        those that are not relayed count no more.
        """
        self._admission.refuse_new()
        self.direct.handouts.release()

    def cut(self) -> None:
        """Ends every running call with `Unavailable(DRAINING)`; they are gone when `idle` is set."""
        while self._running:
            self._running.pop().reschedule(0.0)

    @property
    def is_refusing(self) -> bool:
        """Whether `refuse_new` was called."""
        return self._admission.is_refusing

    @property
    def idle(self) -> asyncio.Event:
        """Set while no call is in flight."""
        return self._admission.idle

    # --- inside -------------------------------------------------------------------------------

    async def _serve(self, view: RoutingView, call: Call, route: Route, exchange: Exchange[T]) -> T:
        async with self._admission.admitted(view, call, route):
            self._budget.earn(self._clock.now())
            async with self._cuttable():
                with self._probation.journey(exchange.fingerprint) as journey:
                    return await self._travel(view, call, route, exchange, journey)

    async def _travel(
        self, view: RoutingView, call: Call, route: Route, exchange: Exchange[T], journey: Journey
    ) -> T:
        """From one endpoint to the next, until there is a result."""
        while True:
            with self._observer.choosing(route):
                endpoint = await self._placement.find(view, call, route, journey)
            try:
                with self._pool.track(endpoint) as tracked:
                    return await exchange.run(endpoint, tracked, self._proved(journey))
            except LeptonError as error:
                await self._note_failure(error, endpoint, tracked, route, journey, exchange)
                if view.only_holder and not exchange.has_begun:
                    raise
                if not exchange.has_begun:
                    await self._retry(error, tracked, call, route, journey)
                elif (result := self._migrate(error, call, route, journey, exchange)) is not None:
                    return result
                view = view.without_holder()

    async def _note_failure(
        self,
        error: LeptonError,
        endpoint: Endpoint,
        tracked: Tracked,
        route: Route,
        journey: Journey,
        exchange: Exchange[T],
    ) -> None:
        """What a failed attempt means for the endpoint, and for whom it is blamed on. Raises `Quarantined`."""
        route.failures.append((endpoint.id, error.reason.value))
        journey.tried.add((endpoint.id, endpoint.incarnation))
        if error.reason is Reason.STREAM_FAULT:
            journey.declined.add(tracked.key)
            if tracked.is_silent:
                route.stream_faults.append("silent")
        if error.reason is Reason.WORKER_LOST:
            # Nothing new goes there until its load stream speaks again, which takes milliseconds if it lives.
            self._pool.lost(endpoint.id, endpoint.incarnation)
            if tracked.is_abandoned:
                journey.declined.add(tracked.key)
        if error.reason is Reason.WORKER_LOST and (exchange.was_taken or tracked.is_abandoned):
            try:
                journey.suspect = await self._probation.lost(
                    journey.suspect, exchange.fingerprint, tracked
                )
            except Quarantined as verdict:
                route.is_convicted = True
                raise verdict from error
        elif journey.suspect is not None:
            self._quarantine.end(journey.suspect)

    async def _retry(
        self, error: LeptonError, tracked: Tracked, call: Call, route: Route, journey: Journey
    ) -> None:
        """Returns when the call may be sent elsewhere, from the beginning; raises `error` otherwise."""
        now = self._clock.now()
        retry = decide(
            error,
            num_sent=0,
            num_retries=route.num_retries,
            remaining_s=call.deadline - now,
            limits=self._limits.retry,
        )
        if not retry.allowed:
            raise error
        if not self._budget.spend(now) and not await self._is_owed(error, tracked):
            raise error
        route.num_retries += 1
        journey.failure, journey.may_wait = error, retry.may_wait

    async def _is_owed(self, error: LeptonError, tracked: Tracked) -> bool:
        """Whether a retry is due although none is left: a worker that goes takes only what it had with it, so moving
        all of that cannot become a storm.
        """
        if error.reason is Reason.WORKER_LOST:
            return tracked.is_draining or await self._probation.has_died(tracked)
        return error.reason is Reason.DRAINING

    def _migrate(
        self, error: LeptonError, call: Call, route: Route, journey: Journey, exchange: Exchange[T]
    ) -> T | None:
        """Returns None when the stream may go on elsewhere, and the result when it is whole; raises otherwise."""
        if route.endpoint is None:
            raise error
        moves = journey.moves
        how = break_of(
            error, asked_to_go_on=journey.origin is not None and not exchange.has_answered
        )
        migration = decide_migration(
            how,
            moves=moves,
            remaining_s=call.deadline - self._clock.now(),
            limits=self._limits.migration,
        )
        if not migration.allowed:
            # Who declined to help is not what happened to the stream.
            raise journey.failure if how is Break.REFUSAL and journey.failure else error
        moves.count(how)
        if how is Break.REFUSAL:
            journey.declined.add((route.endpoint.id, route.endpoint.incarnation))
        else:
            journey.failure, journey.may_wait = error, True
            journey.origin = Origin.of(route.endpoint)
            result = exchange.go_on(route.endpoint, attempt=moves.attempt)
            if result is not None:
                return result
        route.num_migrations += 1
        return None

    def _proved(self, journey: Journey) -> Proved | None:
        """What a call on probation calls when it has produced something."""
        if journey.suspect is None:
            return None
        return partial(self._probation.prove, journey)

    @asynccontextmanager
    async def _cuttable(self) -> AsyncIterator[None]:
        """What runs inside is ended by `cut`."""
        try:
            async with asyncio.timeout(None) as scope:
                self._running.add(scope)
                try:
                    yield
                finally:
                    self._running.discard(scope)
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise Unavailable(
                "this router is shutting down and cannot wait for the end of the call; ask another one",
                reason=Reason.DRAINING,
                retry_after_s=_RETRY_AFTER_S,
            ) from error
