"""What the quarantine decides, carried out: a place for each suspect, and what the loss of a worker meant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import final

from common.clock import Clock
from common.errors import Quarantined
from router.core.endpoint import Endpoint
from router.core.entry import Tracked
from router.core.policy.api import Tried
from router.core.pool import EndpointPool
from router.core.quarantine import Quarantine, Suspect
from router.core.waiting import happens_within

__all__ = ["Probation"]

Pick = Callable[[Tried], Endpoint | None]
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

    def still(self, suspect: Suspect | None) -> Suspect | None:
        """The suspect if anything stands against it still; None, and no probation, otherwise."""
        if suspect is None or self._quarantine.stands(suspect):
            return suspect
        self._quarantine.clear(suspect)
        return None

    def take(self, suspect: Suspect, candidates: Sequence[Endpoint], pick: Pick) -> Endpoint | None:
        """Where the suspect is tried next; None when it has to wait: for its turn if `suspect.is_waiting`, else for an
        endpoint. Raises `Quarantined` when one of its like was convicted meanwhile.
        """
        self._quarantine.check(suspect.fingerprint)
        if suspect.place is not None:  # handed over by the one before
            endpoint = pick({_key(e) for e in candidates} - {suspect.place})
            if endpoint is not None:
                return endpoint
            self._quarantine.end(suspect)
        endpoint = pick(self._quarantine.taken)
        if endpoint is not None and self._quarantine.begin(suspect, _key(endpoint)):
            return endpoint
        if pick(()) is not None:
            self._quarantine.wait(suspect, [_key(e) for e in candidates])
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
        try:
            has_died = await self.has_died(worker)
        except asyncio.CancelledError:
            # Whoever sends poison must not get away with leaving quickly.
            if not worker.is_alive:
                self._quarantine.convict(suspect, worker)
            raise
        if not has_died:
            self._quarantine.end(suspect)
            return suspect
        self._quarantine.convict(suspect, worker)
        raise Quarantined(
            f"two workers died while they computed this request, the last one {worker.key[0]} with no other "
            "suspect on it; requests like it are refused for a while (setting router.quarantine_s)"
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


def _key(endpoint: Endpoint) -> tuple[str, str]:
    return (endpoint.id, endpoint.incarnation)
