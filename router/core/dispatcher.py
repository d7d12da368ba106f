"""The way of a call: admit → resolve → pick → relay → (retry while nothing was sent).

Every accepted call ends in exactly one of: the worker's `Finished` bytes returned, or one `LeptonError` raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar, final

from common.clock import Clock
from common.errors import DeadlineExceeded, LeptonError, NotFound, Overloaded, Reason, Unavailable
from router.core.call import Call, RoutingView
from router.core.endpoint import Endpoint
from router.core.entry import Tracked
from router.core.policy.api import Choice, Policy
from router.core.pool import EndpointPool, PoolSnapshot
from router.core.ports import RouteObserver, WorkerClient, Write
from router.core.resolve import resolve
from router.core.retry import Retry, RetryBudget, RetryLimits, decide
from router.core.route import Route
from router.core.waiting import happens_within

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
        observer: RouteObserver,
        limits: DispatchLimits,
        clock: Clock,
        aliases: Collection[str] = (),
    ) -> None:
        self._aliases = aliases
        """Names that callers may use beside those of models, for what errors list."""
        self._pool = pool
        self._policy = policy
        self._worker = worker
        self._observer = observer
        self._limits = limits
        self._clock = clock
        self._budget = RetryBudget(limits.retry, now=clock.now())
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

    async def generate(
        self, payload: bytes, view: RoutingView, call: Call, write: Write, route: Route
    ) -> bytes:
        """Relays one Generate, message for message, and returns the worker's serialised `Finished`.

        Raises `Unavailable(DRAINING, NO_WORKER, STARTING, WORKER_LOST)`, `Overloaded`, `NotFound`, `InvalidRequest`,
        `DeadlineExceeded`, or the worker's own error. What `write` raises passes through.
        """

        async def relay(endpoint: Endpoint, tracked: Tracked) -> bytes:
            stream = self._worker.generate(endpoint, payload, call)
            tracked.on_abandon = stream.abandon
            num_messages = 0
            try:
                while (message := await stream.read()) is not None:
                    if not num_messages:
                        route.first_message_at = self._clock.now()
                    num_messages += 1  # before the write: from here on it counts as sent
                    await write(message)
            finally:
                route.num_messages = num_messages
                stream.close()
            return stream.finished

        return await self._serve(view, call, route, relay)

    async def unary(
        self, method: str, payload: bytes, view: RoutingView, call: Call, route: Route
    ) -> bytes:
        """Relays a call with one response message; raises as `generate` does."""

        async def ask(endpoint: Endpoint, tracked: Tracked) -> bytes:
            reply = self._worker.unary(endpoint, method, payload, call)
            tracked.on_abandon = reply.abandon
            try:
                return await reply.read()
            finally:
                reply.close()

        return await self._serve(view, call, route, ask)

    def refuse_new(self) -> None:
        """From now on every new call is refused with `Unavailable(DRAINING)`; running ones go on."""
        self._refusing = True

    @property
    def is_refusing(self) -> bool:
        """Whether `refuse_new` was called."""
        return self._refusing

    @property
    def idle(self) -> asyncio.Event:
        """Set while no call is in flight."""
        return self._idle

    # --- inside -------------------------------------------------------------------------------

    async def _serve(
        self,
        view: RoutingView,
        call: Call,
        route: Route,
        attempt: Callable[[Endpoint, Tracked], Awaitable[T]],
    ) -> T:
        with self._admitted():
            self._budget.earn(self._clock.now())
            tried: set[tuple[str, str]] = set()
            failure: LeptonError | None = None
            retry: Retry | None = None
            while True:
                with self._observer.choosing(route):
                    endpoint = await self._choose(view, call, route, tried, failure, retry)
                try:
                    with self._pool.track(endpoint) as tracked:
                        return await attempt(endpoint, tracked)
                except LeptonError as error:
                    failure = error
                    retry = self._after(error, endpoint, call, route)
                    if not retry.allowed:
                        raise
                tried.add((endpoint.id, endpoint.incarnation))
                route.num_retries += 1

    def _after(self, error: LeptonError, endpoint: Endpoint, call: Call, route: Route) -> Retry:
        """What a failed attempt means for the endpoint and for the call."""
        route.failures.append((endpoint.id, error.reason.value))
        if error.reason is Reason.WORKER_LOST:
            # Nothing new goes there until its load stream speaks again, which takes milliseconds if it lives.
            self._pool.lost(endpoint.id, endpoint.incarnation)
        now = self._clock.now()
        retry = decide(
            error,
            num_sent=route.num_messages,
            num_retries=route.num_retries,
            remaining_s=call.deadline - now,
            limits=self._limits.retry,
        )
        if retry.allowed and not self._budget.spend(now):
            return Retry(allowed=False, why="budget")
        return retry

    async def _choose(
        self,
        view: RoutingView,
        call: Call,
        route: Route,
        tried: set[tuple[str, str]],
        failure: LeptonError | None,
        retry: Retry | None,
    ) -> Endpoint:
        """The endpoint for the next attempt, waiting for one within bounds."""
        began = self._clock.now()
        until = min(began + self._limits.wait_for_worker_s_max, call.deadline)
        while True:
            changed = self._pool.changed()
            snapshot = self._pool.snapshot()
            candidates = self._candidates(view, snapshot)
            choice = self._policy.choose(view, candidates, tried)
            now = self._clock.now()
            if now >= call.deadline:
                raise failure or DeadlineExceeded("the deadline passed before a worker was found")
            if choice is not None:
                self._note(route, snapshot, candidates, choice, now - began)
                return choice.endpoint
            if failure is not None and retry is not None and not retry.may_wait:
                raise failure
            if not await happens_within(changed, until - now, self._clock):
                route.waited_s += self._clock.now() - began
                raise failure or self._nobody(view, candidates, call)

    def _candidates(self, view: RoutingView, snapshot: PoolSnapshot) -> Sequence[Endpoint]:
        """Endpoints of the model; () when there is reason to wait for some."""
        try:
            return resolve(view, snapshot, self._aliases)
        except NotFound as error:
            may_come = not self._pool.has_heard or (
                error.reason is Reason.MODEL_NOT_FOUND and self._is_expected(view, snapshot)
            )
            if may_come:
                return ()
            raise

    def _is_expected(self, view: RoutingView, snapshot: PoolSnapshot) -> bool:
        return self._pool.remembers(view.model) if view.model else not snapshot.models

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
        choice: Choice,
        waited_s: float,
    ) -> None:
        route.endpoint = choice.endpoint
        route.model = choice.endpoint.model
        route.choice = choice
        route.num_candidates = len(candidates)
        route.is_stale = snapshot.stale
        route.waited_s += waited_s
        if snapshot.stale_since is not None:
            route.snapshot_age_s = self._clock.now() - snapshot.stale_since

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
