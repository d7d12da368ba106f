"""The way of a call: admit → resolve → pick → relay → (retry while nothing was sent, migrate afterwards).

Every accepted call ends in exactly one of: the worker's `Finished` bytes returned, or one `LeptonError` raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar, final

from common.clock import Clock
from common.errors import (
    DeadlineExceeded,
    LeptonError,
    NotFound,
    Overloaded,
    Quarantined,
    Reason,
    Unavailable,
)
from router.core.call import Call, RoutingView
from router.core.endpoint import Endpoint, EndpointState
from router.core.entry import Tracked
from router.core.exchange import Exchange, Proved, StreamExchange, UnaryExchange
from router.core.journey import Journey
from router.core.migration import Break, MigrationLimits, break_of, decide_migration
from router.core.policy.api import Policy, Tried
from router.core.pool import EndpointPool, PoolSnapshot
from router.core.ports import GenerateCodec, RouteObserver, WorkerClient, Write
from router.core.probation import Probation
from router.core.quarantine import Quarantine, QuarantineLimits
from router.core.resolve import resolve
from router.core.retry import RetryBudget, RetryLimits, decide
from router.core.route import Route
from router.core.waiting import one_happens_within

__all__ = ["DispatchLimits", "Dispatcher"]

T = TypeVar("T")

_RETRY_AFTER_S: Final = 1.0
"""Hint to refused callers: about the time in which load streams and registry catch up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchLimits:
    """Bounds of the dispatcher."""

    in_flight_max: int
    """Calls at once; one more is refused."""
    wait_for_worker_s_max: float
    """Longest wait for a worker of a known model to become ready."""
    retry: RetryLimits
    migration: MigrationLimits
    quarantine: QuarantineLimits
    transcript_bytes_max: int = 64 << 10
    """Raw bytes kept per stream before they are folded."""
    death_verdict_s: float = 1.0
    """Longest wait for a sign of life before a worker's loss is called its death, where somebody is convicted of it."""


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
        policy: Policy,
        worker: WorkerClient,
        codec: GenerateCodec,
        observer: RouteObserver,
        limits: DispatchLimits,
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._policy = policy
        self._worker = worker
        self._codec = codec
        self._observer = observer
        self._limits = limits
        self._clock = clock
        self._budget = RetryBudget(limits.retry, now=clock.now())
        self._quarantine = Quarantine(limits.quarantine, clock)
        self._probation = Probation(self._quarantine, pool, clock, verdict_s=limits.death_verdict_s)
        self._running: set[asyncio.Timeout] = set()
        """One per call in flight: what `cut` ends it with."""
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._refusing = False

    def __repr__(self) -> str:
        return f"Dispatcher(in_flight={self._in_flight}{', refusing' if self._refusing else ''})"

    @property
    def in_flight(self) -> int:
        """Calls that are being served."""
        return self._in_flight

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
        """From now on every new call is refused with `Unavailable(DRAINING)`; running ones go on."""
        self._refusing = True

    def cut(self) -> None:
        """Ends every running call with `Unavailable(DRAINING)`; they are gone when `idle` is set."""
        while self._running:
            self._running.pop().reschedule(0.0)

    @property
    def is_refusing(self) -> bool:
        """Whether `refuse_new` was called."""
        return self._refusing

    @property
    def idle(self) -> asyncio.Event:
        """Set while no call is in flight."""
        return self._idle

    # --- inside -------------------------------------------------------------------------------

    async def _serve(self, view: RoutingView, call: Call, route: Route, exchange: Exchange[T]) -> T:
        with self._admitted():
            self._budget.earn(self._clock.now())
            async with self._cuttable():
                with self._journey(exchange) as journey:
                    return await self._travel(view, call, route, exchange, journey)

    async def _travel(
        self, view: RoutingView, call: Call, route: Route, exchange: Exchange[T], journey: Journey
    ) -> T:
        """From one endpoint to the next, until there is a result."""
        while True:
            with self._observer.choosing(route):
                endpoint = await self._choose(view, call, route, journey)
            try:
                with self._pool.track(endpoint) as tracked:
                    return await exchange.run(endpoint, tracked, self._proved(journey))
            except LeptonError as error:
                await self._note_failure(error, endpoint, tracked, route, journey, exchange)
                if not exchange.has_begun:
                    self._retry(error, call, route, journey)
                elif (result := self._migrate(error, call, route, journey, exchange)) is not None:
                    return result

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
        if error.reason is Reason.WORKER_LOST:
            # Nothing new goes there until its load stream speaks again, which takes milliseconds if it lives.
            self._pool.lost(endpoint.id, endpoint.incarnation)
            if tracked.is_abandoned:
                journey.declined.add(tracked.key)
            try:
                journey.suspect = await self._probation.lost(
                    journey.suspect, exchange.fingerprint, tracked
                )
            except Quarantined as verdict:
                route.is_convicted = True
                raise verdict from error
        elif journey.suspect is not None:
            self._quarantine.end(journey.suspect)

    def _retry(self, error: LeptonError, call: Call, route: Route, journey: Journey) -> None:
        """Returns when the call may be sent elsewhere, from the beginning; raises `error` otherwise."""
        now = self._clock.now()
        retry = decide(
            error,
            num_sent=0,
            num_retries=route.num_retries,
            remaining_s=call.deadline - now,
            limits=self._limits.retry,
        )
        if not retry.allowed or not self._budget.spend(now):
            raise error
        route.num_retries += 1
        journey.failure, journey.may_wait = error, retry.may_wait

    def _migrate(
        self, error: LeptonError, call: Call, route: Route, journey: Journey, exchange: Exchange[T]
    ) -> T | None:
        """Returns None when the stream may go on elsewhere, and the result when it is whole; raises otherwise."""
        if route.stream_fault or route.endpoint is None:
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
        if how is Break.REFUSAL:
            moves.refusals += 1
            journey.declined.add((route.endpoint.id, route.endpoint.incarnation))
        else:
            moves.losses += how is Break.LOSS
            moves.hand_overs += how is Break.HAND_OVER
            journey.failure, journey.may_wait = error, True
            journey.origin = route.endpoint
            result = exchange.go_on(
                revision=route.endpoint.revision,
                attempt=moves.attempt,
                from_worker_id=route.endpoint.id,
            )
            if result is not None:
                return result
        route.num_migrations += 1
        return None

    def _proved(self, journey: Journey) -> Proved | None:
        """What a call on probation calls when it has produced something."""
        suspect = journey.suspect
        if suspect is None:
            return None

        def clear() -> None:
            self._quarantine.clear(suspect)
            journey.suspect = None

        return clear

    async def _choose(
        self, view: RoutingView, call: Call, route: Route, journey: Journey
    ) -> Endpoint:
        """The endpoint for the next attempt, waiting for one within bounds."""
        began = self._clock.now()
        until = min(began + self._limits.wait_for_worker_s_max, call.deadline)
        while True:
            changed = self._pool.changed()
            snapshot = self._pool.snapshot()
            candidates = self._candidates(view, snapshot, journey)
            endpoint = self._take(view, candidates, journey)
            now = self._clock.now()
            if now >= call.deadline:
                raise journey.failure or DeadlineExceeded(
                    "the deadline passed before a worker was found"
                )
            if endpoint is not None:
                self._note(route, snapshot, candidates, endpoint, now - began)
                return endpoint
            if journey.failure is not None and not journey.may_wait:
                raise journey.failure
            events: tuple[asyncio.Event, ...] = (changed,)
            left_s = until - now
            if journey.suspect is not None and journey.suspect.is_waiting:
                # Somebody else is being tried there, and is done in a moment: patience as long as the deadline.
                events, left_s = (changed, journey.suspect.turn), call.deadline - now
            if not await one_happens_within(events, left_s, self._clock):
                route.waited_s += self._clock.now() - began
                raise self._stranded(view, candidates, call, journey)

    def _take(
        self, view: RoutingView, candidates: Sequence[Endpoint], journey: Journey
    ) -> Endpoint | None:
        """The one to use now, if there is one."""

        def pick(closed: Tried) -> Endpoint | None:
            return self._pick(view, candidates, journey, closed)

        suspect = journey.suspect
        if suspect is not None and not self._quarantine.stands(suspect):
            self._quarantine.clear(suspect)
            suspect = journey.suspect = None
        if suspect is None:
            return pick(())
        return self._probation.take(suspect, candidates, pick)

    def _pick(
        self, view: RoutingView, candidates: Sequence[Endpoint], journey: Journey, closed: Tried
    ) -> Endpoint | None:
        """The best one that is not in `closed`."""
        tried = {*closed, *journey.tried} if closed else journey.tried
        if (origin := journey.origin) is None:
            return self._policy.pick(view, candidates, tried)
        alike = [e for e in candidates if e.fingerprint == origin.fingerprint]
        return (
            self._policy.pick(view, alike, tried)
            or self._policy.pick(view, candidates, tried)
            # Better where it broke, which speaks again, than nowhere: perhaps a connection was cut.
            or self._policy.pick(view, candidates, {*closed, *journey.declined})
        )

    def _candidates(
        self, view: RoutingView, snapshot: PoolSnapshot, journey: Journey
    ) -> Sequence[Endpoint]:
        """Endpoints of the model, or of the revision of a stream that goes on; () when there is reason to wait."""
        if (origin := journey.origin) is not None:
            return [
                endpoint
                for endpoint in snapshot.models.get(origin.model, ())
                if endpoint.revision == origin.revision
            ]
        try:
            return resolve(view, snapshot)
        except NotFound as error:
            may_come = not self._pool.has_heard or (
                error.reason is Reason.MODEL_NOT_FOUND and self._is_expected(view, snapshot)
            )
            if may_come:
                return ()
            raise

    def _is_expected(self, view: RoutingView, snapshot: PoolSnapshot) -> bool:
        return self._pool.remembers(view.model) if view.model else not snapshot.models

    def _stranded(
        self, view: RoutingView, candidates: Sequence[Endpoint], call: Call, journey: Journey
    ) -> LeptonError:
        """What to tell when waiting for an endpoint was in vain."""
        origin = journey.origin
        gone = (EndpointState.LOST, EndpointState.DRAINING)
        if origin is not None and all(e.state in gone for e in candidates):
            return Unavailable(
                f"worker {origin.id} is gone, and no other one has revision {origin.revision[:12]} of "
                f"model {origin.model!r}; other weights would give another answer",
                reason=Reason.REVISION_GONE,
                retry_after_s=_RETRY_AFTER_S,
            )
        return journey.failure or self._nobody(view, candidates, call)

    def _nobody(self, view: RoutingView, candidates: Sequence[Endpoint], call: Call) -> LeptonError:
        if self._clock.now() >= call.deadline:
            return DeadlineExceeded("the deadline passed while waiting for a worker")
        if not self._pool.has_heard:
            return Unavailable(
                "the router has just started and has not heard of any worker yet",
                reason=Reason.STARTING,
                retry_after_s=_RETRY_AFTER_S,
            )
        model = f"model {view.model!r}" if view.model else "any model"
        states = ", ".join(f"{e.id} is {e.state.name.lower()}" for e in candidates[:8])
        return Unavailable(
            f"no worker for {model} is ready ({states or 'none is registered'})",
            retry_after_s=_RETRY_AFTER_S,
        )

    def _note(
        self,
        route: Route,
        snapshot: PoolSnapshot,
        candidates: Sequence[Endpoint],
        endpoint: Endpoint,
        waited_s: float,
    ) -> None:
        route.endpoint = endpoint
        route.model = endpoint.model
        route.num_candidates = len(candidates)
        route.is_stale = snapshot.stale
        route.waited_s += waited_s
        if snapshot.stale_since is not None:
            route.snapshot_age_s = self._clock.now() - snapshot.stale_since

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

    @contextmanager
    def _journey(self, exchange: Exchange[T]) -> Iterator[Journey]:
        """The state of one call, with its suspicion cleared up at its end. Raises `Quarantined`."""
        journey = Journey()
        if self._quarantine.is_watching:
            journey.suspect = self._quarantine.admit(exchange.fingerprint())
        try:
            yield journey
            if journey.suspect is not None:
                self._quarantine.clear(journey.suspect)
        finally:
            if journey.suspect is not None:
                self._quarantine.leave(journey.suspect)

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._refusing:
            raise Unavailable(
                "this router is shutting down; ask another one",
                reason=Reason.DRAINING,
                retry_after_s=_RETRY_AFTER_S,
            )
        if self._in_flight >= self._limits.in_flight_max:
            raise Overloaded(
                f"{self._in_flight} calls are in flight, the most this router takes "
                "(setting router.in_flight_max)",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._idle.set()
