"""A router, workers, and a real etcd that is killed, wiped and emptied under them: no call notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from common.clock import SystemClock
from common.discovery.api import Instance, Registration, Snapshot
from common.discovery.etcd.registrar import EtcdRegistrar
from common.discovery.etcd.watcher import EtcdWatcher
from common.discovery.memory import MemoryRegistry
from common.discovery.settings import DiscoverySettings
from router.core.endpoint import EndpointState
from tests.support.etcd import EtcdServer, etcd
from tests.support.fake_worker import FakeWorker
from tests.support.small_cluster import SmallCluster, small_cluster, until

__all__ = ["etcd"]

pytestmark = pytest.mark.etcd


class EtcdRegistry:
    """Registrar and Watcher of one etcd."""

    def __init__(self, server: EtcdServer, snapshot_file: Path | None = None) -> None:
        settings = DiscoverySettings(
            etcd_endpoints=(server.endpoint,),
            lease_ttl_s=1,
            relist_s=1.0,
            retry_s_min=0.02,
            retry_s_max=0.2,
            request_timeout_s=1.0,
            snapshot_file=snapshot_file,
            snapshot_save_s=0,
        )
        self._registrar = EtcdRegistrar(settings, SystemClock())
        self._watcher = EtcdWatcher(settings, SystemClock())

    async def register(self, instance: Instance) -> Registration:
        return await self._registrar.register(instance)

    def snapshots(self) -> AsyncGenerator[Snapshot]:
        return self._watcher.snapshots()


class Traffic:
    """Calls that never stop, and what became of them."""

    def __init__(self, cluster: SmallCluster) -> None:
        self._cluster = cluster
        self.num_done = 0
        self.may_break = False
        """Whether a stream that had begun may end with its worker."""
        self.errors: list[object] = []

    async def run(self) -> None:
        while True:
            answer = await self._cluster.ask()
            self.num_done += 1
            if answer.error is not None and not (self.may_break and answer.messages):
                self.errors.append(answer.error)

    async def more(self, num: int) -> None:
        """Returns when so many further calls have ended."""
        target = self.num_done + num
        await until(lambda: self.num_done >= target, within_s=20, what="calls go on")


@asynccontextmanager
async def under_traffic(
    *workers: FakeWorker, registry: Any
) -> AsyncIterator[tuple[SmallCluster, Traffic]]:
    async with small_cluster(*workers, registry=cast("MemoryRegistry", registry)) as cluster:
        traffic = Traffic(cluster)
        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(traffic.run()) for _ in range(4)]
            await traffic.more(10)
            yield cluster, traffic
            await traffic.more(10)
            for stream in streams:
                stream.cancel()
        assert traffic.errors == []
        cluster.router.pool.check_integrity()


async def in_thread(work: Callable[[], None]) -> None:
    await asyncio.to_thread(work)


async def test_killed_etcd_changes_nothing_and_its_return_is_noticed(etcd: EtcdServer) -> None:
    registry = EtcdRegistry(etcd)
    async with under_traffic(FakeWorker("w1"), FakeWorker("w2"), registry=registry) as (
        cluster,
        traffic,
    ):
        await in_thread(etcd.kill)
        await until(lambda: cluster.router.pool.snapshot().stale, within_s=10)
        await traffic.more(50)
        traffic.may_break = True
        await cluster.workers["w1"].kill()  # seen without etcd
        await cluster.until_state("w1", EndpointState.LOST)
        await traffic.more(50)
        await in_thread(etcd.start)
        await until(lambda: not cluster.router.pool.snapshot().stale, within_s=10)
        await until(lambda: cluster.endpoints()["w2"].state is EndpointState.READY)


async def test_wiped_etcd_takes_nobody_away(etcd: EtcdServer) -> None:
    """The list is empty at first; the workers announce themselves again."""
    registry = EtcdRegistry(etcd)
    async with under_traffic(FakeWorker("w1"), FakeWorker("w2"), registry=registry) as (
        cluster,
        traffic,
    ):
        await in_thread(lambda: etcd.restart(wipe=True))
        await until(lambda: not cluster.router.pool.snapshot().stale, within_s=10)
        await traffic.more(50)
        assert {e.state for e in cluster.endpoints().values()} == {EndpointState.READY}
        assert len(cluster.endpoints()) == 2


async def test_keys_that_vanish_in_a_burst_take_nobody_away(etcd: EtcdServer) -> None:
    registry = EtcdRegistry(etcd)
    async with under_traffic(FakeWorker("w1"), FakeWorker("w2"), registry=registry) as (
        cluster,
        traffic,
    ):
        await etcd.delete_prefix(b"")
        await traffic.more(100)
        assert len(cluster.endpoints()) == 2


async def test_router_that_starts_without_etcd_serves_from_its_file(
    etcd: EtcdServer, tmp_path: Path
) -> None:
    file = tmp_path / "snapshot.json"
    registry = EtcdRegistry(etcd, snapshot_file=file)
    async with under_traffic(FakeWorker("w1"), registry=registry):
        await until(file.exists)
        await in_thread(etcd.kill)
        async with small_cluster(registry=cast("MemoryRegistry", registry)) as second:
            await second.until_state("w1", EndpointState.READY)
            assert second.router.pool.snapshot().stale
            assert (await second.ask()).error is None
