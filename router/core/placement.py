"""Finding the endpoint for the next attempt of a call: resolve → pick, waiting for one within bounds.

a new call                 any endpoint of its model that is ready and was not tried
a stream that goes on      only of the same revision; one of the same fingerprint first
a suspect                  only where no other suspect is being tried
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Final, final

from common.clock import Clock
from common.errors import DeadlineExceeded, LeptonError, NotFound, Reason, Unavailable
from router.core.call import Call, RoutingView
from router.core.endpoint import Endpoint, EndpointState
from router.core.journey import Journey
from router.core.policy.api import Choice, Policy, Tried
from router.core.pool import EndpointPool, PoolSnapshot
from router.core.probation import Probation
from router.core.resolve import resolve
from router.core.route import Route
from router.core.waiting import one_happens_within

__all__ = ["Placement"]

_RETRY_AFTER_S: Final = 1.0
"""Hint to refused callers: about the time in which load streams and registry catch up."""

_GONE: Final = (EndpointState.LOST, EndpointState.DRAINING)


@final
class Placement:
    """Used by all calls of a dispatcher. `wait_s_max` is the longest wait for an endpoint to become ready, seconds."""

    def __init__(
        self,
        *,
        pool: EndpointPool,
        policy: Policy,
        probation: Probation,
        clock: Clock,
        wait_s_max: float,
        aliases: Collection[str],
    ) -> None:
        self._aliases = aliases
        """Names that callers may use beside those of models, for what errors list."""
        self._pool = pool
        self._policy = policy
        self._probation = probation
        self._clock = clock
        self._wait_s_max = wait_s_max

    async def find(self, view: RoutingView, call: Call, route: Route, journey: Journey) -> Endpoint:
        """The endpoint for the next attempt, waiting for one within bounds; `route` says what was chosen.

        Raises `NotFound` and `InvalidRequest` for models and revisions that are not there, `Unavailable` when waiting
        was in vain, `DeadlineExceeded`, `Quarantined` for a suspect whose like was convicted meanwhile.
        """
        began = self._clock.now()
        until = min(began + self._wait_s_max, call.deadline)
        while True:
            changed = self._pool.changed()
            snapshot = self._pool.snapshot()
            candidates = self._candidates(view, snapshot, journey)
            choice = self._take(view, candidates, journey)
            now = self._clock.now()
            if now >= call.deadline:
                raise journey.failure or DeadlineExceeded(
                    "the deadline passed before a worker was found"
                )
            if choice is not None:
                self._note(view, route, snapshot, candidates, choice, now - began)
                return choice.endpoint
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
    ) -> Choice | None:
        """The one to use now, if there is one."""

        def choose(closed: Tried) -> Choice | None:
            return self._choose(view, candidates, journey, closed)

        journey.suspect = self._probation.still(journey.suspect)
        if journey.suspect is None:
            return choose(())
        return self._probation.take(journey.suspect, candidates, choose)

    def _choose(
        self, view: RoutingView, candidates: Sequence[Endpoint], journey: Journey, closed: Tried
    ) -> Choice | None:
        """The best one that is not in `closed`."""
        tried = {*closed, *journey.tried} if closed else journey.tried
        if (origin := journey.origin) is None:
            return self._policy.choose(view, candidates, tried)
        alike = [e for e in candidates if e.fingerprint == origin.fingerprint]
        return (
            self._policy.choose(view, alike, tried)
            or self._policy.choose(view, candidates, tried)
            # Better where it broke, which speaks again, than nowhere: perhaps a connection was cut.
            or self._policy.choose(view, candidates, {*closed, *journey.declined})
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

    def _stranded(
        self, view: RoutingView, candidates: Sequence[Endpoint], call: Call, journey: Journey
    ) -> LeptonError:
        """What to tell when waiting for an endpoint was in vain."""
        origin = journey.origin
        if origin is not None and all(e.state in _GONE for e in candidates):
            return Unavailable(
                f"worker {origin.worker_id} is gone, and no other one has revision {origin.revision[:12]} of "
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
        view: RoutingView,
        route: Route,
        snapshot: PoolSnapshot,
        candidates: Sequence[Endpoint],
        choice: Choice,
        waited_s: float,
    ) -> None:
        route.endpoint = choice.endpoint
        route.model = choice.endpoint.model
        route.choice = choice
        route.known_bytes = self._policy.routed(view, choice.endpoint)
        route.num_candidates = len(candidates)
        route.is_stale = snapshot.stale
        route.waited_s += waited_s
        if snapshot.stale_since is not None:
            route.snapshot_age_s = self._clock.now() - snapshot.stale_since
