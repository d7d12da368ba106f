"""What every registry promises (common/discovery/api.py), on memory, on a directory, and on a real etcd."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.discovery.api import Instance, InstanceState, Registrar, Snapshot, Watcher
from common.discovery.codec import VALUE_BYTES_MAX, encode
from common.discovery.etcd.keys import WORKERS, key_of
from common.discovery.memory import MemoryRegistry
from common.discovery.open import open_registrar, open_watcher
from common.discovery.settings import DiscoverySettings
from common.errors import Conflict, Reason
from tests.support.etcd import EtcdServer
from tests.support.instances import make_instance
from tests.support.patience import PATIENCE_S
from tests.support.watching import until_announced, watching

ROOT = Path(__file__).resolve().parents[2]


class Registry(ABC):
    """One registry, what a test may do to it, and how to get at it."""

    def registrar(self) -> Registrar:
        return open_registrar(self.settings, SystemClock())

    def watcher(self) -> Watcher:
        return open_watcher(self.settings, SystemClock())

    settings: DiscoverySettings

    @abstractmethod
    async def come_back(self) -> None:
        """It can be reached; before this it never could."""

    @abstractmethod
    async def write(self, worker_id: str, value: bytes) -> None:
        """Writes a value behind everybody's back."""

    @abstractmethod
    async def remove(self, worker_id: str) -> None:
        """Removes an entry behind everybody's back."""


class Memory(Registry):
    def __init__(self) -> None:
        self._registry = MemoryRegistry()
        self._registry.go_away()

    def registrar(self) -> Registrar:
        return self._registry

    def watcher(self) -> Watcher:
        return self._registry

    async def come_back(self) -> None:
        self._registry.come_back()

    async def write(self, worker_id: str, value: bytes) -> None:
        self._registry.corrupt(worker_id, value)

    async def remove(self, worker_id: str) -> None:
        self._registry.expire(worker_id)


class Directory(Registry):
    def __init__(self, folder: Path) -> None:
        self._in_the_way = folder / "cluster"
        self._in_the_way.write_text("a file where the folder should be")
        self._path = self._in_the_way / "workers"
        self.settings = DiscoverySettings(registry_dir=self._path, poll_s=0.05)

    async def come_back(self) -> None:
        self._in_the_way.unlink()

    async def write(self, worker_id: str, value: bytes) -> None:
        (self._path / f"{worker_id}.json").write_bytes(value)

    async def remove(self, worker_id: str) -> None:
        (self._path / f"{worker_id}.json").unlink()


class Etcd(Registry):
    def __init__(self, server: EtcdServer) -> None:
        self._server = server
        self.settings = DiscoverySettings(
            etcd_endpoints=(server.endpoint,), lease_ttl_s=2, retry_s_max=0.5
        )

    async def come_back(self) -> None:
        self._server.start()

    async def write(self, worker_id: str, value: bytes) -> None:
        await self._server.put(key_of(worker_id), value)

    async def remove(self, worker_id: str) -> None:
        await self._server.delete_prefix(WORKERS + worker_id.encode())


KINDS = ["memory", "directory", pytest.param("etcd", marks=pytest.mark.etcd)]


@pytest.fixture(params=KINDS)
async def away(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Registry]:
    """A registry that cannot be reached yet."""
    async with AsyncExitStack() as stack:
        registry: Registry
        match request.param:
            case "memory":
                registry = Memory()
            case "directory":
                registry = Directory(tmp_path)
            case _:
                server = EtcdServer()
                stack.callback(server.close)
                registry = Etcd(server)
        yield registry


@pytest.fixture
async def registry(away: Registry) -> Registry:
    """A registry that can be reached."""
    await away.come_back()
    return away


def has(*instances: Instance) -> object:
    """A condition: these are registered, and nobody else."""
    wanted = {instance.id: instance for instance in instances}

    def holds(snapshot: Snapshot) -> bool:
        return dict(snapshot.instances) == wanted and not snapshot.stale

    return holds


async def test_an_empty_registry_is_known_to_be_empty(registry: Registry) -> None:
    async with watching(registry.watcher()) as seen:
        assert await seen.until(lambda s: True) == Snapshot(instances={})


async def test_a_registered_worker_is_seen_whole(registry: Registry) -> None:
    worker = make_instance(metrics_address="127.0.0.1:9090", tasks=("generate", "embed"))
    async with watching(registry.watcher()) as seen:
        await seen.until(has())
        registration = await registry.registrar().register(worker)
        assert registration.announced
        await seen.until(has(worker))
        await registration.close()
        assert not registration.announced


async def test_who_watches_later_sees_the_same(registry: Registry) -> None:
    registration = await registry.registrar().register(make_instance())
    async with watching(registry.watcher()) as one, watching(registry.watcher()) as two:
        assert await one.until(has(make_instance())) == await two.until(has(make_instance()))
    await registration.close()


async def test_draining_is_seen_before_the_worker_is_gone(registry: Registry) -> None:
    draining = make_instance(state=InstanceState.DRAINING)
    async with watching(registry.watcher()) as seen:
        registration = await registry.registrar().register(make_instance())
        await seen.until(has(make_instance()))
        await registration.update(draining)
        await seen.until(has(draining))
        await registration.close()
        await seen.until(has())
    assert draining in [snapshot.instances.get("w1") for snapshot in seen.snapshots]


async def test_a_closed_id_is_free_at_once(registry: Registry) -> None:
    if isinstance(registry, Etcd):
        registry.settings = registry.settings.model_copy(update={"lease_ttl_s": 600})
    registrar = registry.registrar()
    first = await registrar.register(make_instance())
    await first.close()
    async with asyncio.timeout(PATIENCE_S):  # the lease would have lasted longer
        second = await registrar.register(make_instance(incarnation="second"))
    assert second.announced
    await second.close()


async def test_a_live_id_is_refused_and_its_holder_untouched(registry: Registry) -> None:
    holder = make_instance()
    first = await registry.registrar().register(holder)
    other = make_instance(incarnation="second", address="127.0.0.1:2")
    async with watching(registry.watcher()) as seen:
        with pytest.raises(Conflict, match=r"w1.*127\.0\.0\.1:50061") as refusal:
            await registry.registrar().register(other)
        assert refusal.value.reason is Reason.WORKER_ID_TAKEN
        assert first.announced
        await seen.until(has(holder))
        # Another id is no conflict, and closing what was refused took nothing with it.
        neighbour = make_instance("w2", incarnation="second")
        second = await registry.registrar().register(neighbour)
        await seen.until(has(holder, neighbour))
    await first.close()
    await second.close()


@pytest.mark.parametrize("worker_id", ["", "../w1", "a/b", ".hidden", "w 1", "x" * 129, "ä"])
async def test_an_id_that_is_no_key_is_refused(registry: Registry, worker_id: str) -> None:
    with pytest.raises(Conflict) as refusal:
        await registry.registrar().register(make_instance(worker_id))
    assert refusal.value.reason is Reason.SETTING_INVALID


async def test_a_value_that_nobody_could_read_is_refused(registry: Registry) -> None:
    with pytest.raises(Conflict, match="address") as refusal:
        await registry.registrar().register(make_instance(address="nowhere"))
    assert refusal.value.reason is Reason.SETTING_INVALID
    registration = await registry.registrar().register(make_instance())
    with pytest.raises(Conflict, match="rows_max"):
        await registration.update(make_instance(rows_max=0))
    await registration.close()


BAD_VALUES = {
    "not-json": b"{",
    "deep": b"[" * 20_000,
    "list": b"[]",
    "empty": b"",
    "bytes": b"\xff\xfe\xfd",
    "future": encode(make_instance("future")).replace(b'"format":1', b'"format":2'),
    "other-id": encode(make_instance("w1")),
    "port": encode(make_instance("port")).replace(b":50061", b":99999"),
    "mistyped": encode(make_instance("mistyped")).replace(b'"rows_max":16', b'"rows_max":"16"'),
    "missing": encode(make_instance("missing")).replace(b'"model":', b'"modell":'),
    "large": encode(make_instance("large")) + b" " * VALUE_BYTES_MAX,
}


async def test_bad_values_are_skipped_and_told(registry: Registry) -> None:
    registration = await registry.registrar().register(make_instance())
    async with watching(registry.watcher()) as seen:
        await seen.until(has(make_instance()))
        for worker_id, value in BAD_VALUES.items():
            await registry.write(worker_id, value)
        snapshot = await seen.until(lambda s: len(s.problems) == len(BAD_VALUES))
        assert set(snapshot.problems) == set(BAD_VALUES)
        assert all(snapshot.problems.values())
        assert set(snapshot.instances) == {"w1"}
        # Still following, and a problem goes with its entry.
        await registry.remove("not-json")
        second = await registry.registrar().register(make_instance("w2"))
        await seen.until(lambda s: "w2" in s.instances and "not-json" not in s.problems)
    async with watching(registry.watcher()) as later:
        snapshot = await later.until(lambda s: len(s.instances) == 2)
        assert set(snapshot.problems) == set(BAD_VALUES) - {"not-json"}
    await registration.close()
    await second.close()


async def test_an_entry_that_vanished_is_written_again(registry: Registry) -> None:
    if isinstance(registry, Memory):
        pytest.skip("memory plays a death with `expire`; nobody else can reach its entries")
    registration = await registry.registrar().register(make_instance())
    async with watching(registry.watcher()) as seen:
        await seen.until(has(make_instance()))
        await registry.remove("w1")
    # Who watches from now on cannot have seen it before.
    async with watching(registry.watcher()) as seen:
        await seen.until(has(make_instance()))
    await registration.close()


async def test_many_changes_end_in_the_truth(registry: Registry) -> None:
    order = random.Random(7)
    registrar, truth, registrations = registry.registrar(), {}, {}
    async with watching(registry.watcher()) as seen:
        for round_ in range(150):
            worker_id = f"w{order.randrange(12)}"
            instance = make_instance(worker_id, rows_max=round_ + 1)
            if worker_id not in registrations:
                registrations[worker_id] = await registrar.register(instance)
                truth[worker_id] = instance
            elif order.random() < 0.3:
                await registrations.pop(worker_id).close()
                del truth[worker_id]
            else:
                await registrations[worker_id].update(instance)
                truth[worker_id] = instance
        assert truth
        await seen.until(has(*truth.values()))
    for registration in registrations.values():
        await registration.close()


async def test_a_registry_that_is_away_is_no_error(away: Registry) -> None:
    draining = make_instance(state=InstanceState.DRAINING)
    async with watching(away.watcher()) as seen:
        async with asyncio.timeout(PATIENCE_S):
            registration = await away.registrar().register(make_instance())
            assert not registration.announced
            await registration.update(draining)
        assert seen.snapshots == []
        await away.come_back()
        # The newest value follows, not the first.
        await seen.until(has(draining))
        await until_announced(registration)
        await registration.close()
        await seen.until(has())


async def test_closing_while_the_registry_is_away_is_bounded(away: Registry) -> None:
    registration = await away.registrar().register(make_instance())
    async with asyncio.timeout(PATIENCE_S):
        await registration.close()


async def test_nothing_is_left_running(registry: Registry) -> None:
    async with watching(registry.watcher()) as seen:
        registration = await registry.registrar().register(make_instance())
        await seen.until(has(make_instance()))
        await registration.close()
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("discovery")] == []


async def test_a_killed_worker_disappears_and_its_id_can_be_claimed(registry: Registry) -> None:
    if isinstance(registry, Memory):
        pytest.skip("memory lives and dies with its process")
    settings = json.dumps(registry.settings.model_dump(mode="json"))
    async with watching(registry.watcher()) as seen:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.registrant", settings, "w1", "first"),
            cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT}:{ROOT / 'common' / 'gen'}"},
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"announced\n"
        await seen.until(has(make_instance()))
        # Control: while it lives the id is taken, so what follows is due to its death.
        second = make_instance(incarnation="second")
        with pytest.raises(Conflict):
            await registry.registrar().register(second)
        process.kill()
        await process.wait()
        async with asyncio.timeout(PATIENCE_S):
            registration = await registry.registrar().register(second)
        await seen.until(has(second))
    await registration.close()
