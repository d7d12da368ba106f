"""What the quarantine decides, carried out: a place for each suspect, and what the loss of a worker meant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import final

from common.clock import Clock
from common.errors import Quarantined
from router.core.deaths import Key
from router.core.endpoint import Endpoint, EndpointState
from router.core.entry import Tracked
from router.core.journey import Journey
from router.core.policy.api import Choice, Tried
from router.core.pool import EndpointPool
from router.core.quarantine import Quarantine
from router.core.suspect import Suspect
from router.core.waiting import happens_within

__all__ = ["Probation"]

Choose = Callable[[Tried], Choice | None]
"""The best endpoint that is not among the given ones; None when there is none."""


@final
class Probation:
    """Used by all calls of a dispatcher. `verdict_s` is in seconds on `clock`."""

    def __init__(
        self, quarantine: Quarantine, pool: EndpointPool, clock: Clock, *, verdict_s: float
    ) -> None:
        self._quarantine = quarantine
        self._pool = pool
        self._clock = clock
        self._verdict_s = verdict_s

    @contextmanager
    def journey(self, fingerprint: Callable[[], bytes]) -> Iterator[Journey]:
        """The state of one call, a suspect from the start if its like is one. Left normally, it is cleared; otherwise
        who sends the like of an open case is a suspect. Raises `Quarantined`.
        """
        journey = Journey()
        if self._quarantine.is_watching:
            journey.suspect = self._quarantine.admit(fingerprint())
        try:
            yield journey
            if journey.suspect is not None:
                self._quarantine.clear(journey.suspect)
        finally:
            if journey.suspect is not None:
                self._quarantine.leave(journey.suspect)

    def prove(self, journey: Journey) -> None:
        """The call has produced something: a suspect no more."""
        if journey.suspect is not None:
            self._quarantine.clear(journey.suspect)
            journey.suspect = None

    def still(self, suspect: Suspect | None) -> Suspect | None:
        """The suspect if anything stands against it still; None, and no probation, otherwise."""
        if suspect is None or self._quarantine.stands(suspect):
            return suspect
        self._quarantine.clear(suspect)
        return None

    def take(
        self, suspect: Suspect, candidates: Sequence[Endpoint], choose: Choose
    ) -> Choice | None:
        """Where the suspect is tried next; None when it has to wait: for its turn if `suspect.is_waiting`, else for an
        endpoint. Raises `Quarantined` when one of its like was convicted meanwhile.
        """
        self._quarantine.check(suspect.fingerprint)
        if suspect.place is not None:  # handed over by the one before
            choice = choose({_key(e) for e in candidates} - {suspect.place})
            if choice is not None:
                return choice
            suspect.refused |= {suspect.place} & _keys_of_ready(candidates)
            self._quarantine.end(suspect)
        choice = choose(self._quarantine.taken)
        if choice is not None and self._quarantine.begin(suspect, _key(choice.endpoint)):
            return choice
        if choose(()) is not None:
            # Not a place that is no use to it: such places would go from one to the next without end.
            self._quarantine.wait(suspect, _keys_of_ready(candidates) - suspect.refused)
        return None

    async def lost(
        self, suspect: Suspect | None, fingerprint: Callable[[], bytes], worker: Tracked
    ) -> Suspect | None:
        """The call's connection to `worker` is lost. Returns the suspect that the call is from now on, if it is one.

        Raises `Quarantined` when that convicts it, after at most `verdict_s`.
        """
        if not self._quarantine.is_on or worker.is_draining:
            if suspect is not None:
                self._quarantine.end(suspect)
            return suspect
        if suspect is None or suspect.place != worker.key:
            return self._quarantine.accuse(suspect, fingerprint(), worker)
        self._quarantine.charge(suspect, worker)
        try:
            has_died = await self.has_died(worker)
        except asyncio.CancelledError:
            # Whoever sends poison must not get away with leaving quickly.
            if not worker.is_alive:
                self._quarantine.judge(suspect, worker)
            raise
        if not has_died:
            self._quarantine.end(suspect)
            return suspect
        if not self._quarantine.judge(suspect, worker):
            return suspect
        raise Quarantined(
            f"{suspect.num_deaths + 1} workers died while they computed this request, the last one {worker.key[0]} "
            "with no other suspect on it; requests like it are refused for a while (setting router.quarantine_s)"
        )

    async def has_died(self, worker: Tracked) -> bool:
        """Whether there is no sign of life within `verdict_s`: a cut connection is not a death."""
        until = self._clock.now() + self._verdict_s
        while not worker.is_abandoned:
            changed = self._pool.changed()
            if worker.is_alive:
                return False
            if not await happens_within(changed, until - self._clock.now(), self._clock):
                return True
        return True


def _keys_of_ready(candidates: Sequence[Endpoint]) -> set[Key]:
    return {_key(e) for e in candidates if e.state is EndpointState.READY}


def _key(endpoint: Endpoint) -> tuple[str, str]:
    return (endpoint.id, endpoint.incarnation)
