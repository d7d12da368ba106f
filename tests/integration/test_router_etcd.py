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
from common.discovery.codec import encode
from common.discovery.etcd.keys import key_of
from common.discovery.etcd.registrar import EtcdRegistrar
from common.discovery.etcd.watcher import EtcdWatcher
from common.discovery.memory import MemoryRegistry
from common.discovery.settings import DiscoverySettings
from router.core.endpoint import EndpointState
from tests.support.etcd import EtcdServer, etcd
from tests.support.fake_worker import FakeWorker
from tests.support.small_cluster import Answer, SmallCluster, small_cluster, until

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
        await until(lambda: self.num_done >= target, what="calls go on")


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
        await until(lambda: cluster.router.pool.snapshot().stale)
        await traffic.more(50)
        traffic.may_break = True
        await cluster.workers["w1"].kill()  # seen without etcd
        await cluster.until_state("w1", EndpointState.LOST)
        await traffic.more(50)
        await in_thread(etcd.start)
        await until(lambda: not cluster.router.pool.snapshot().stale)
        await until(lambda: cluster.endpoints()["w2"].state is EndpointState.READY)


async def test_wiped_etcd_takes_nobody_away(etcd: EtcdServer) -> None:
    """The list is empty at first; the workers announce themselves again."""
    registry = EtcdRegistry(etcd)
    async with under_traffic(FakeWorker("w1"), FakeWorker("w2"), registry=registry) as (
        cluster,
        traffic,
    ):
        await in_thread(lambda: etcd.restart(wipe=True))
        await until(lambda: not cluster.router.pool.snapshot().stale)
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


async def test_compacted_etcd_changes_nothing_and_newcomers_are_seen(etcd: EtcdServer) -> None:
    registry = EtcdRegistry(etcd)
    async with under_traffic(FakeWorker("w1"), FakeWorker("w2"), registry=registry) as (
        cluster,
        traffic,
    ):
        await etcd.compact()
        await traffic.more(50)
        await in_thread(etcd.restart)
        await etcd.put(b"filler", b"")
        await etcd.compact()
        await cluster.add(FakeWorker("w3"))
        await traffic.more(50)
        assert len(cluster.endpoints()) == 3
        await cluster.workers["w3"].stop()


class OnlyWatched(EtcdRegistry):
    """Nobody can announce himself again, as when etcd has no space or workers cannot reach it."""

    def __init__(self, server: EtcdServer) -> None:
        super().__init__(server)
        self._server = server

    async def register(self, instance: Instance) -> Registration:
        await self._server.put(key_of(instance.id), encode(instance))
        return cast("Registration", _Unowned())


class _Unowned:
    async def close(self) -> None: ...


async def vanish_for_good(
    server: EtcdServer, *, is_over: Callable[[SmallCluster], bool], **settings: Any
) -> list[Answer]:
    """Every key is deleted, hold-down is over, and then calls come."""
    async with small_cluster(
        FakeWorker("w1"),
        FakeWorker("w2"),
        registry=cast("MemoryRegistry", OnlyWatched(server)),
        hold_down_s_max=0.3,
        wait_for_worker_s_max=0.2,
        **settings,
    ) as cluster:
        await server.delete_prefix(b"")
        await until(lambda: is_over(cluster))
        await asyncio.sleep(0.6)  # noqa: TID251 - twice the hold-down
        return [await cluster.ask() for _ in range(10)]


def is_frozen(cluster: SmallCluster) -> bool:
    return cluster.router.pool.frozen == {("tiny", "missing")}


def is_empty(cluster: SmallCluster) -> bool:
    return not cluster.endpoints()


async def test_all_that_vanish_at_once_stay_beyond_the_hold_down(etcd: EtcdServer) -> None:
    answers = await vanish_for_good(etcd, is_over=is_frozen)
    assert [answer.error for answer in answers] == [None] * 10


async def test_without_the_freeze_they_go_with_the_hold_down(etcd: EtcdServer) -> None:
    answers = await vanish_for_good(etcd, is_over=is_empty, mass_vanish_s_max=0.1)
    assert all(answer.error is not None for answer in answers)


async def test_what_is_no_worker_is_skipped_counted_and_told_once(
    etcd: EtcdServer, caplog: pytest.LogCaptureFixture
) -> None:
    registry = EtcdRegistry(etcd)
    async with under_traffic(FakeWorker("w1"), registry=registry) as (cluster, traffic):
        future = encode(cluster.workers["w1"].instance(id="future"))
        await etcd.put(key_of("text"), b"not JSON")
        await etcd.put(key_of("large"), b"x" * (1 << 20))
        await etcd.put(key_of("future"), future.replace(b'"format":1', b'"format":99'))
        await etcd.put(
            key_of("port"), future.replace(b":%d" % cluster.workers["w1"].port, b":9999999")
        )
        await until(lambda: len(bad_values(caplog)) == 4)
        await traffic.more(50)
        await asyncio.sleep(1.2)  # noqa: TID251 - a list anew, which finds them again
        assert sorted(bad_values(caplog)) == ["future", "large", "port", "text"]
        assert await cluster.has_metric("lepton_registry_bad_values 4.0")
        assert set(cluster.endpoints()) == {"w1"}


def bad_values(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        str(vars(record)["lepton_fields"]["key"])
        for record in caplog.records
        if record.getMessage() == "discovery.bad_value"
    ]


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
