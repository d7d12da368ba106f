"""Discovery against a real etcd that is stopped, killed, wiped, frozen and compacted.

Where a check could pass because nothing happened at all, a control beside it shows that something would have been seen.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.ports import free_port
from common.clock import SystemClock
from common.discovery.api import Instance, InstanceState, Snapshot
from common.discovery.codec import encode
from common.discovery.etcd.client import EtcdClient, Listing
from common.discovery.etcd.errors import Compacted, LeaseGone, Refused, Unreachable
from common.discovery.etcd.keys import WORKERS, key_of
from common.discovery.etcd.registration import EtcdRegistration
from common.discovery.open import open_registrar, open_watcher
from common.discovery.settings import DiscoverySettings
from common.discovery.snapshot_file import SnapshotFile
from common.errors import Conflict
from lepton.etcd.v1 import etcd_pb2 as pb
from tests.support.etcd import EtcdServer, etcd  # noqa: F401 - a fixture
from tests.support.instances import make_instance
from tests.support.patience import PATIENCE_S
from tests.support.processes import until
from tests.support.watching import Seen, until_announced, watching

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.etcd

Condition = Callable[[Snapshot], bool]


def settings_for(server: EtcdServer, **changes: Any) -> DiscoverySettings:
    """Quick enough for a test; re-listing is off unless a test is about it."""
    quick: dict[str, Any] = {
        "etcd_endpoints": (server.endpoint,),
        "lease_ttl_s": 2,
        "retry_s_max": 0.3,
        "request_timeout_s": 1.0,
        "relist_s": 3600,
        "snapshot_save_s": 0.01,
    }
    return DiscoverySettings(**{**quick, **changes})


async def register(
    server: EtcdServer, instance: Instance | None = None, **changes: Any
) -> EtcdRegistration:
    registrar = open_registrar(settings_for(server, **changes), SystemClock())
    registration = await registrar.register(instance or make_instance())
    assert isinstance(registration, EtcdRegistration)
    return registration


def follow(server: EtcdServer, **changes: Any) -> Any:
    return watching(open_watcher(settings_for(server, **changes), SystemClock()))


def fresh(*instances: Instance) -> Condition:
    """These workers and no others, from an etcd that answers."""
    return lambda s: dict(s.instances) == {it.id: it for it in instances} and not s.stale


def is_stale(snapshot: Snapshot) -> bool:
    return snapshot.stale


def without_w1(snapshot: Snapshot) -> bool:
    return "w1" not in snapshot.instances


async def prove_it_follows(server: EtcdServer, seen: Seen, *known: Instance) -> None:
    """A new worker is seen, so the watcher is not merely showing what it had."""
    newcomer = make_instance("newcomer")
    registration = await register(server, newcomer)
    await seen.until(fresh(*known, newcomer))
    await registration.close()
    await seen.until(fresh(*known))


async def test_a_restart_with_its_data_changes_nothing(etcd: EtcdServer) -> None:  # noqa: F811
    registration = await register(etcd, lease_ttl_s=60)  # no lease may end while etcd starts
    async with follow(etcd) as seen:
        await seen.until(fresh(make_instance()))
        etcd.stop()
        await seen.until(is_stale)
        etcd.start()
        await seen.until(fresh(make_instance()))
        await prove_it_follows(etcd, seen, make_instance())
    assert not any(map(without_w1, seen.snapshots))
    await registration.close()


async def test_a_killed_etcd_changes_nothing_even_beyond_the_lease(etcd: EtcdServer) -> None:  # noqa: F811
    registration = await register(etcd)
    async with follow(etcd) as seen:
        await seen.until(fresh(make_instance()))
        etcd.kill()
        stale = await seen.until(is_stale)
        assert stale.instances == {"w1": make_instance()}
        await seen.never(without_w1, for_s=2.5)  # the lease was 2 s
        assert not registration.announced  # by its own clock
        etcd.start()
        await seen.until(fresh(make_instance()))
        await until_announced(registration)
        await prove_it_follows(etcd, seen, make_instance())
    await registration.close()


async def test_an_update_during_an_outage_arrives_after_it(etcd: EtcdServer) -> None:  # noqa: F811
    registration = await register(etcd)
    draining = make_instance(state=InstanceState.DRAINING)
    async with follow(etcd) as seen:
        await seen.until(fresh(make_instance()))
        etcd.kill()
        await seen.until(is_stale)
        async with asyncio.timeout(PATIENCE_S):
            await registration.update(draining)
        etcd.start()
        await seen.until(fresh(draining))
    await registration.close()


async def test_a_wiped_etcd_is_a_new_beginning(etcd: EtcdServer) -> None:  # noqa: F811
    for _ in range(50):  # so that the revision falls far
        await etcd.put(b"filler", b"")
    registration = await register(etcd)
    async with follow(etcd) as seen:
        await seen.until(fresh(make_instance()))
        before = await etcd.revision()
        etcd.restart(wipe=True)
        assert await etcd.revision() < before
        # The worker comes back by itself, and what happens afterwards is seen.
        await until_announced(registration)
        await seen.until(fresh(make_instance()))
        await prove_it_follows(etcd, seen, make_instance())

        # Control, the trap that this is about: a watch resumed where the old one ended hears nothing.
        client = etcd.client()
        async with aclosing(client.watch(WORKERS, start=before + 1)) as responses:
            await anext(responses)  # created
            await registration.update(make_instance(state=InstanceState.DRAINING))
            await seen.until(lambda s: s.instances["w1"].state is InstanceState.DRAINING)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await anext(responses)
        await client.close()
    await registration.close()


async def test_compaction_under_the_watch(etcd: EtcdServer) -> None:  # noqa: F811
    registration = await register(etcd)
    async with follow(etcd) as seen:
        await seen.until(fresh(make_instance()))
        revision = await etcd.compact()
        await prove_it_follows(etcd, seen, make_instance())
        # And when the stream breaks while history goes.
        etcd.kill()
        etcd.start()
        await etcd.compact()
        await prove_it_follows(etcd, seen, make_instance())
    # Control: the history is really gone.
    client = etcd.client()
    async with aclosing(client.watch(WORKERS, start=revision - 1)) as responses:
        assert (await anext(responses)).created
        with pytest.raises(Compacted):
            await anext(responses)
    await client.close()
    await registration.close()


async def test_history_that_goes_between_list_and_watch(
    etcd: EtcdServer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    registration = await register(etcd)
    listed, compacted = EtcdClient.list_prefix, []

    async def list_then_compact(self: EtcdClient, prefix: bytes) -> Listing:
        listing = await listed(self, prefix)
        if prefix == WORKERS and not compacted:
            compacted.append(listing.revision)
            await registration.update(make_instance(state=InstanceState.DRAINING))
            await etcd.put(b"filler", b"")
            await etcd.compact()
        return listing

    monkeypatch.setattr(EtcdClient, "list_prefix", list_then_compact)
    async with follow(etcd) as seen:
        await seen.until(fresh(make_instance(state=InstanceState.DRAINING)))
    assert "discovery.compacted" in caplog.messages  # control: it did go between the two
    await registration.close()


async def test_a_store_lost_between_list_and_watch(
    etcd: EtcdServer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The list is of a store whose revision was higher; a watch from there would wait for a future that never comes
    (the control in the test of the wiped etcd shows it).
    """
    listed, lost = EtcdClient.list_prefix, []

    async def list_of_the_lost_store(self: EtcdClient, prefix: bytes) -> Listing:
        listing = await listed(self, prefix)
        if prefix == WORKERS and not lost:
            lost.append(listing)
            return replace(listing, revision=listing.revision + 100)
        return listing

    monkeypatch.setattr(EtcdClient, "list_prefix", list_of_the_lost_store)
    async with follow(etcd) as seen:
        await seen.until(fresh())
        assert lost
        await prove_it_follows(etcd, seen)


async def test_a_worker_that_stood_still_comes_back(etcd: EtcdServer) -> None:  # noqa: F811
    settings = settings_for(etcd).model_dump_json()
    async with follow(etcd) as seen:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.registrant", settings, "w1", "first"),
            cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT}:{ROOT / 'common' / 'gen'}"},
        )
        try:
            await seen.until(fresh(make_instance()))
            process.send_signal(signal.SIGSTOP)
            await seen.until(fresh())  # its lease ended
            process.send_signal(signal.SIGCONT)
            await seen.until(fresh(make_instance()))
        finally:
            process.kill()
            await process.wait()


async def fill(server: EtcdServer) -> None:
    for number in range(40):
        await server.put(b"filler%d" % number, b"x" * (1 << 20))


async def test_an_etcd_without_space_refuses_writes_and_serves_reads() -> None:
    with EtcdServer(options=("--quota-backend-bytes", str(4 << 20))) as server:
        registration = await register(server, lease_ttl_s=20)
        async with follow(server) as seen:
            await seen.until(fresh(make_instance()))
            with pytest.raises(Refused, match="space"):
                await fill(server)
            # A new worker serves unannounced, the old one stays, and the router still reads.
            second = await register(server, make_instance("w2"))
            assert not second.announced
            await seen.never(lambda s: s.stale or "w1" not in s.instances, for_s=1)
            assert registration.announced
        async with follow(server) as seen:
            await seen.until(fresh(make_instance()))
        await second.close()
        await registration.close()


async def test_a_revoked_lease_is_noticed_and_replaced(etcd: EtcdServer) -> None:  # noqa: F811
    registration = await register(etcd)
    first = await etcd.get(key_of("w1"))
    assert first is not None
    client = etcd.client()
    async with follow(etcd) as seen:
        await seen.until(fresh(make_instance()))
        await client.revoke(first.lease)

        async def is_replaced() -> bool:
            second = await etcd.get(key_of("w1"))
            return second is not None and second.lease not in (0, first.lease)

        # Who watches may see it gone meanwhile, or not: it can be there again before anybody looks.
        await until(is_replaced, what="another lease")
        await seen.until(fresh(make_instance()))
    with pytest.raises(LeaseGone):  # control: revoked means gone
        await client.revoke(first.lease)
    await client.close()
    await registration.close()


async def test_etcd_that_comes_later_than_everybody() -> None:
    server = EtcdServer()
    try:
        async with follow(server) as seen:
            async with asyncio.timeout(PATIENCE_S):
                registration = await register(server)
            assert not registration.announced
            await seen.never(lambda s: True, for_s=0.3)
            server.start()
            await seen.until(fresh(make_instance()))
        await registration.close()
    finally:
        server.close()


async def test_a_frozen_etcd_holds_nobody_up(etcd: EtcdServer) -> None:  # noqa: F811
    registration = await register(etcd)
    async with follow(etcd, relist_s=0.3) as seen:
        await seen.until(fresh(make_instance()))
        etcd.freeze()
        await seen.until(is_stale)
        async with asyncio.timeout(PATIENCE_S):
            await registration.update(make_instance(state=InstanceState.DRAINING))
        async with asyncio.timeout(PATIENCE_S):
            latecomer = await register(etcd, make_instance("w2"))
        etcd.thaw()
        await seen.until(fresh(make_instance(state=InstanceState.DRAINING), make_instance("w2")))
    await registration.close()
    await latecomer.close()


async def test_values_and_keys_that_are_no_workers(etcd: EtcdServer) -> None:  # noqa: F811
    registration = await register(etcd)
    async with follow(etcd) as seen:
        await seen.until(fresh(make_instance()))
        await etcd.put(WORKERS + b"\xff\x00", b"\x00")
        await etcd.put(WORKERS, b"")
        await etcd.put(WORKERS + b"large", b"x" * (1 << 20))
        await etcd.put(WORKERS + b"a/b", encode(make_instance("b")))
        await etcd.put(b"/lepton/v1/workerz", b"not ours")
        snapshot = await seen.until(lambda s: len(s.problems) == 4)
        assert set(snapshot.problems) == {"\\xff\0", "", "large", "a/b"}
        await prove_it_follows_beside(etcd, seen)
    await registration.close()


async def prove_it_follows_beside(server: EtcdServer, seen: Seen) -> None:
    registration = await register(server, make_instance("w2"))
    await seen.until(lambda s: set(s.instances) == {"w1", "w2"})
    await registration.close()


async def test_more_workers_than_fit_a_page(etcd: EtcdServer) -> None:  # noqa: F811
    workers = [make_instance(f"w{number}") for number in range(600)]
    client = etcd.client()
    for start in range(0, len(workers), 100):
        puts = [
            pb.RequestOp(request_put=pb.PutRequest(key=key_of(it.id), value=encode(it)))
            for it in workers[start : start + 100]
        ]
        await client.txn(pb.TxnRequest(success=puts))
    listing = await client.list_prefix(WORKERS)
    assert sorted(entry.key for entry in listing.entries) == sorted(key_of(it.id) for it in workers)
    await client.close()
    async with follow(etcd) as seen:
        first = await seen.until(lambda s: True)
    assert set(first.instances) == {it.id for it in workers}


async def test_a_router_that_starts_without_etcd_knows_its_workers(
    etcd: EtcdServer,  # noqa: F811
    tmp_path: Path,
) -> None:
    kept = tmp_path / "state" / "snapshot.json"
    registration = await register(etcd)
    async with follow(etcd, snapshot_file=kept) as seen:
        await seen.until(fresh(make_instance()))
    etcd.kill()
    async with follow(etcd, snapshot_file=kept) as seen:
        snapshot = await seen.until(lambda s: True)
        assert snapshot == Snapshot(instances={"w1": make_instance()}, stale=True)
        etcd.start()
        await until_announced(registration)
        await prove_it_follows(etcd, seen, make_instance())
    await registration.close()
    etcd.kill()
    # Controls: without the file nothing is known, and a file that is not one is passed over.
    async with follow(etcd) as seen:
        await seen.never(lambda s: True, for_s=0.5)
    kept.write_text('{"instances": [{"id"')
    async with follow(etcd, snapshot_file=kept) as seen:
        await seen.never(lambda s: True, for_s=0.5)


async def test_the_snapshot_file_is_whole_at_every_moment(
    etcd: EtcdServer,  # noqa: F811
    tmp_path: Path,
) -> None:
    kept = tmp_path / "snapshot.json"
    registration = await register(etcd)
    async with follow(etcd, snapshot_file=kept) as seen:
        for number in range(1, 60):
            await registration.update(make_instance(rows_max=number))
            if kept.exists():
                json.loads(kept.read_text())
        await seen.until(fresh(make_instance(rows_max=59)))
    assert json.loads(kept.read_text())["instances"][0]["rows_max"] == 59
    assert files_in(tmp_path) == ["snapshot.json"]
    await registration.close()


def cut_off(registration: EtcdRegistration) -> None:
    """It cannot reach its etcd, while others can."""
    registration._client._endpoints = (f"127.0.0.1:{free_port()}",)


def connect(registration: EtcdRegistration, server: EtcdServer) -> None:
    registration._client._endpoints = (server.endpoint,)


async def test_an_id_taken_over_during_an_outage_is_left_to_its_new_holder(
    etcd: EtcdServer,  # noqa: F811
) -> None:
    first = await register(etcd)
    cut_off(first)
    second_instance = make_instance(incarnation="second")
    etcd.restart(wipe=True)
    second = await register(etcd, second_instance)
    connect(first, etcd)
    async with follow(etcd) as seen:
        await seen.until(fresh(second_instance))
        await seen.never(lambda s: s.instances["w1"].incarnation == "first", for_s=1.5)
        assert second.announced
        assert not first.announced
        # It has not given up: the id is its own again when the other leaves.
        await second.close()
        await seen.until(fresh(make_instance()))
    await first.close()


async def test_close_waits_for_the_file_that_is_being_written(
    etcd: EtcdServer,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, disk, ended = threading.Event(), threading.Event(), threading.Event()

    def slow_save(self: SnapshotFile, snapshot: Snapshot) -> None:
        begun.set()
        disk.wait(PATIENCE_S)
        ended.set()

    monkeypatch.setattr(SnapshotFile, "save", slow_save)
    async with follow(etcd, snapshot_file=tmp_path / "snapshot.json"):
        await asyncio.to_thread(begun.wait, PATIENCE_S)
        asyncio.get_running_loop().call_later(0.3, disk.set)  # while it is being closed
    assert ended.is_set()


async def test_an_update_while_the_key_is_being_claimed_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = EtcdServer()
    try:
        registration = await register(server)
        draining = make_instance(state=InstanceState.DRAINING)
        done, updated = EtcdClient.txn, []

        async def txn_with_an_update_behind_it(
            self: EtcdClient, request: pb.TxnRequest
        ) -> pb.TxnResponse:
            answer = await done(self, request)
            if not updated:
                updated.append(draining)
                await registration.update(draining)
            return answer

        monkeypatch.setattr(EtcdClient, "txn", txn_with_an_update_behind_it)
        server.start()
        async with follow(server) as seen:
            await seen.until(fresh(draining))
        await until_announced(registration)
        await registration.close()
    finally:
        server.close()


async def test_an_answer_that_gets_lost_is_looked_up_not_repeated(
    etcd: EtcdServer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done, lost = EtcdClient.txn, []

    async def txn_whose_answer_is_lost(self: EtcdClient, request: pb.TxnRequest) -> pb.TxnResponse:
        answer = await done(self, request)
        if len(lost) < 2:
            lost.append(answer.succeeded)
            raise Unreachable("the answer is lost")
        return answer

    monkeypatch.setattr(EtcdClient, "txn", txn_whose_answer_is_lost)
    registration = await register(etcd)
    await until_announced(registration)
    assert lost[0]  # control: the first did happen
    there = await etcd.get(key_of("w1"))
    assert there is not None
    await registration.close()
    assert await etcd.get(key_of("w1")) is None


async def test_an_update_whose_answer_is_lost_is_made_good_at_once(
    etcd: EtcdServer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registration = await register(etcd, lease_ttl_s=600)  # the next renewal is far away
    done, lost = EtcdClient.txn, []

    async def txn_that_does_not_arrive(self: EtcdClient, request: pb.TxnRequest) -> pb.TxnResponse:
        if not lost:
            lost.append(request)
            raise Unreachable("not sent")
        return await done(self, request)

    monkeypatch.setattr(EtcdClient, "txn", txn_that_does_not_arrive)
    draining = make_instance(state=InstanceState.DRAINING)
    async with follow(etcd) as seen:
        await seen.until(fresh(make_instance()))
        await registration.update(draining)
        assert not registration.announced  # control: it was lost
        await seen.until(fresh(draining))
    await until_announced(registration)
    await registration.close()


@pytest.mark.parametrize(("relist_s", "healed"), [(0.5, True), (3600, False)])
async def test_a_watch_that_goes_silent_is_healed_by_the_next_list(
    etcd: EtcdServer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    *,
    relist_s: float,
    healed: bool,
) -> None:
    heard = EtcdClient.watch

    async def deaf(self: EtcdClient, prefix: bytes, *, start: int) -> AsyncGenerator[Any]:
        async with aclosing(heard(self, prefix, start=start)) as responses:
            yield await anext(responses)
            await asyncio.Event().wait()

    monkeypatch.setattr(EtcdClient, "watch", deaf)
    async with follow(etcd, relist_s=relist_s) as seen:
        await seen.until(fresh())
        registration = await register(etcd)
        if healed:
            await seen.until(fresh(make_instance()))
        else:  # control: the watch is deaf
            await seen.never(fresh(make_instance()), for_s=1.5)
        await registration.close()


async def test_the_next_endpoint_is_tried(etcd: EtcdServer) -> None:  # noqa: F811
    endpoints = (f"127.0.0.1:{free_port()}", etcd.endpoint)
    registration = await register(etcd, etcd_endpoints=endpoints)
    async with follow(etcd, etcd_endpoints=endpoints) as seen:
        await seen.until(fresh(make_instance()))
    await until_announced(registration)
    await registration.close()


async def leader_of(servers: list[EtcdServer]) -> EtcdServer:
    """Who leads now; while they elect, nobody does."""
    leaders: list[EtcdServer] = []

    async def is_elected() -> bool:
        for server in servers:
            client = server.client()
            status = await client.status()
            await client.close()
            if status.leader == status.header.member_id:
                leaders.append(server)
        return bool(leaders)

    await until(is_elected, what="a leader")
    return leaders[-1]


async def test_a_cluster_that_loses_its_leader_loses_nobody() -> None:
    servers = [EtcdServer() for _ in range(3)]
    try:
        for server in servers:
            server.join(servers)
            server.start(wait=False)
        for server in servers:
            server.wait_until_ready()
        endpoints = ",".join(server.endpoint for server in servers)
        everywhere = {"etcd_endpoints": endpoints, "lease_ttl_s": 60}
        registration = await register(servers[0], **everywhere)
        async with follow(servers[0], **everywhere) as seen:
            await seen.until(fresh(make_instance()))
            for rows in (2, 3):
                leader = await leader_of(servers)
                leader.kill()
                await registration.update(make_instance(rows_max=rows))
                await seen.until(fresh(make_instance(rows_max=rows)))
                leader.start()
        assert not any(map(without_w1, seen.snapshots))
        await registration.close()
    finally:
        for server in servers:
            server.close()


async def test_a_refusal_is_told_apart_from_an_outage(etcd: EtcdServer) -> None:  # noqa: F811
    client = etcd.client()
    with pytest.raises(Refused):
        await client.grant(2**40)  # longer than etcd allows
    assert (await client.status()).version.startswith("3.")
    await client.close()


async def test_a_conflict_leaves_no_lease(etcd: EtcdServer) -> None:  # noqa: F811
    holder = await register(etcd)
    assert await etcd.num_leases() == 1
    with pytest.raises(Conflict):
        await register(etcd, make_instance(incarnation="second"))
    assert await etcd.num_leases() == 1
    await holder.close()
    assert await etcd.num_leases() == 0


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
