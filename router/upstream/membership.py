"""Keeps the pool in step with the registry, and one load follower per endpoint in step with the pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import aclosing
from typing import Any, cast, final

from common.clock import Clock
from common.discovery.api import Instance, InstanceState, Snapshot, Watcher
from common.logs import get_logger
from router.core.endpoint import Endpoint, EndpointState, Load
from router.core.entry import Tracked
from router.core.health.outliers import Ejection
from router.core.pool import EndpointPool, PoolSnapshot
from router.upstream.channels import Channels
from router.upstream.load_feed import LoadFeed
from router.upstream.prober import Prober

__all__ = ["Membership", "endpoint_of"]

log = get_logger(__name__)

_Key = tuple[str, str, str]
"""(id, incarnation, address): what a follower is bound to."""


@final
class Membership:
    """Owns the follower tasks.

    `on_tick` is called with the pool's snapshot after every change of membership and every `sweep_s` seconds,
    `on_ejection` when a worker is set aside or comes back.
    """

    def __init__(
        self,
        *,
        watcher: Watcher,
        pool: EndpointPool,
        feed: LoadFeed,
        channels: Channels,
        clock: Clock,
        sweep_s: float,
        prober: Prober,
        on_tick: Callable[[PoolSnapshot], None],
        on_ejection: Callable[[Ejection], None],
    ) -> None:
        self._watcher = watcher
        self._pool = pool
        self._feed = feed
        self._channels = channels
        self._clock = clock
        self._sweep_s = sweep_s
        self._prober = prober
        self._on_tick = on_tick
        self._on_ejection = on_ejection
        self._suspects: frozenset[str] = frozenset()
        self._frozen: frozenset[tuple[str, str]] = frozenset()
        self.num_bad_values = 0
        """Entries of the registry that could not be read."""
        self._followers: dict[_Key, asyncio.Task[None]] = {}
        self._stale = False

    async def run(self) -> None:
        """Until cancelled; then every follower has ended."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sweep(group), name="membership.sweep")
            snapshots = self._watcher.snapshots()
            async with aclosing(cast("Any", snapshots)):
                async for snapshot in snapshots:
                    self._take(snapshot, group)

    def _take(self, snapshot: Snapshot, group: asyncio.TaskGroup) -> None:
        if snapshot.stale != self._stale:
            self._stale = snapshot.stale
            event = "registry.away" if snapshot.stale else "registry.back"
            log.warning(event, workers=len(snapshot.instances))
        self.num_bad_values = len(snapshot.problems)
        self._pool.apply(map(endpoint_of, snapshot.instances.values()), stale=snapshot.stale)
        self._reconcile(group)

    async def _sweep(self, group: asyncio.TaskGroup) -> None:
        while True:
            began_at = self._clock.now()
            await self._clock.sleep(self._sweep_s)
            # So long this process itself stood still or had no processor: no worker can be blamed for that.
            slept_s = max(0.0, self._clock.now() - began_at - self._sweep_s)
            abandoned = self._pool.sweep(slept_s=slept_s)
            for tracked in abandoned:
                tracked.abandon()
            self._tell_abandoned(abandoned)
            for endpoint in self._pool.due_probes():
                group.create_task(self._probe(endpoint), name=f"probe.{endpoint.id}")
            self._tell()
            self._tell_suspects()
            self._reconcile(group)
            await self._channels.tidy({address for _, _, address in self._followers})

    async def _probe(self, endpoint: Endpoint) -> None:
        passed = False
        try:
            passed = await self._prober.ask(endpoint)
        finally:
            self._pool.probed(endpoint, passed=passed)

    def _tell(self) -> None:
        """Puts into the log what the pool has decided."""
        for news in self._pool.news():
            self._on_ejection(news)
            if news.why:
                for_s = round(news.for_s, 1)
                log.warning("endpoint.ejected", worker_id=news.key[0], why=news.why, for_s=for_s)
            else:
                log.info("endpoint.readmitted", worker_id=news.key[0], by_probe=news.by_probe)
        frozen, before = self._pool.frozen, self._frozen
        self._frozen = frozen
        for model, trouble in frozen - before:
            # Most of a model at once: look at the network and the registry before the workers.
            log.error("pool.frozen", model=model, trouble=trouble)
        for model, trouble in before - frozen:
            log.warning("pool.thawed", model=model, trouble=trouble)

    def _tell_abandoned(self, calls: Collection[Tracked]) -> None:
        silent = sorted({tracked.key[0] for tracked in calls if tracked.is_silent})
        if silent:
            log.warning("calls.silent", worker_ids=silent)
        if lost := sum(not tracked.is_silent for tracked in calls):
            log.warning("calls.abandoned", calls=lost)

    def _tell_suspects(self) -> None:
        models = self._pool.snapshot().models.values()
        suspects = {e.id: e for group in models for e in group if e.state is EndpointState.SUSPECT}
        for worker_id in suspects.keys() - self._suspects:
            log.warning("endpoint.suspect", worker_id=worker_id, why=suspects[worker_id].trouble)
        self._suspects = frozenset(suspects)

    def _reconcile(self, group: asyncio.TaskGroup) -> None:
        """Starts and ends followers so that there is one per endpoint of the pool."""
        snapshot = self._pool.snapshot()
        wanted = {
            (endpoint.id, endpoint.incarnation, endpoint.address): endpoint
            for endpoints in snapshot.models.values()
            for endpoint in endpoints
        }
        for key in self._followers.keys() - wanted.keys():
            self._followers.pop(key).cancel()
            log.info("endpoint.left", worker_id=key[0], address=key[2])
        for key in wanted.keys() - self._followers.keys():
            endpoint = wanted[key]
            self._followers[key] = group.create_task(
                self._feed.follow(endpoint), name=f"load_feed.{endpoint.id}"
            )
            log.info(
                "endpoint.joined",
                worker_id=endpoint.id,
                address=endpoint.address,
                model=endpoint.model,
                revision=endpoint.revision,
            )
        self._on_tick(snapshot)


def endpoint_of(instance: Instance) -> Endpoint:
    """A registered worker as the pool takes it."""
    draining = instance.state is InstanceState.DRAINING
    return Endpoint(
        id=instance.id,
        incarnation=instance.incarnation,
        address=instance.address,
        model=instance.model,
        revision=instance.revision,
        tasks=instance.tasks,
        context_length=instance.context_length,
        vocab_size=instance.vocab_size,
        fingerprint=instance.fingerprint,
        tool_format=instance.tool_format,
        state=EndpointState.DRAINING if draining else EndpointState.CONNECTING,
        load=Load(rows_max=max(1, instance.rows_max)),
    )
