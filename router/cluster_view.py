"""The router's pool, to look at."""

from __future__ import annotations

from typing import final

from common.clock import Clock
from gateway.ports import ClusterPicture, WorkerPicture
from router.core.alias import Aliases
from router.core.endpoint import Endpoint
from router.core.pool import EndpointPool
from router.transport.models_of import models_of

__all__ = ["PoolView"]


@final
class PoolView:
    """The `ClusterView` of a router."""

    def __init__(self, pool: EndpointPool, aliases: Aliases, clock: Clock) -> None:
        self._pool = pool
        self._aliases = aliases
        self._clock = clock

    async def look(self) -> ClusterPicture:
        """See `ClusterView.look`. Never fails, never waits."""
        snapshot = self._pool.snapshot()
        endpoints = sorted(
            (one for group in snapshot.models.values() for one in group),
            key=lambda one: (one.model, one.id),
        )
        since = snapshot.stale_since
        return ClusterPicture(
            models=tuple(models_of(snapshot, self._aliases.targets).models),
            workers=tuple(_picture(one) for one in endpoints),
            stale_s=None if since is None else self._clock.now() - since,
        )


def _picture(endpoint: Endpoint) -> WorkerPicture:
    load = endpoint.load
    is_idle = load.step_ends_in_ms is None
    return WorkerPicture(
        id=endpoint.id,
        model=endpoint.model,
        revision=endpoint.revision,
        state=endpoint.state.name.lower(),
        trouble=endpoint.trouble,
        running=load.running,
        rows_max=load.rows_max,
        waiting=load.waiting,
        kv_usage=load.kv_usage,
        tokens_per_s=0.0 if is_idle else load.decode_tokens_per_s * load.decode_rows,
    )
