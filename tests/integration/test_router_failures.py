"""Workers that die, hang, drain, restart, lie, and a registry that goes away: what a client notices."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.trace import NoOpTracer

from common.clock import SystemClock
from common.discovery.api import InstanceState
from common.discovery.memory import MemoryRegistry
from common.errors import Internal, LeptonError, Overloaded, Reason, Unavailable
from lepton.v1 import inference_pb2
from router.core.call import Call
from router.core.endpoint import EndpointState
from router.upstream.channels import worker_channels
from router.upstream.grpc_worker import GrpcWorker
from router.upstream.membership import endpoint_of
from tests.support.fake_worker import FakeWorker, Script, message_of
from tests.support.patience import PATIENCE_S
from tests.support.small_cluster import GENERATE, Answer, SmallCluster, small_cluster, until

READY, LOST, DRAINING = EndpointState.READY, EndpointState.LOST, EndpointState.DRAINING


def start(cluster: SmallCluster) -> Any:
    """A running Generate, to be read by hand."""
    payload = inference_pb2.GenerateRequest(model="tiny", text="x").SerializeToString()
    return cluster.channel.unary_stream(GENERATE)(payload, timeout=PATIENCE_S)


async def ask_many(cluster: SmallCluster, num: int) -> list[Answer]:
    return list(await asyncio.gather(*(cluster.ask() for _ in range(num))))


@pytest.mark.parametrize("error", [Internal("x"), Overloaded("full"), Unavailable("starting")])
async def test_error_before_the_first_message_is_never_seen(error: LeptonError) -> None:
    bad, good = FakeWorker("bad", script=Script(messages=0, error=error)), FakeWorker("good")
    async with small_cluster(bad, good) as cluster:
        answers = await ask_many(cluster, 10)
        assert [answer.error for answer in answers] == [None] * 10
        assert len(good.calls) == 10
        assert len(bad.calls) >= 1


async def test_without_migration_an_error_after_the_first_message_is_seen() -> None:
    script = Script(messages=1, error=Internal("x"))
    workers = [FakeWorker("w1", script=script), FakeWorker("w2", script=script)]
    async with small_cluster(*workers, migrations_max=0) as cluster:
        answer = await cluster.ask()
        assert len(answer.messages) == 1
        assert answer.code is grpc.StatusCode.INTERNAL
        assert sum(len(worker.calls) for worker in workers) == 1


async def test_killed_worker_costs_no_call_that_had_no_answer_yet() -> None:
    """Calls wait on both workers; one dies; all are answered by the other."""
    gate = asyncio.Event()
    w1, w2 = FakeWorker("w1", script=Script(gate=gate)), FakeWorker("w2", script=Script(gate=gate))
    async with small_cluster(w1, w2) as cluster, asyncio.TaskGroup() as group:
        waiting = group.create_task(ask_many(cluster, 8))
        await until(lambda: len(w1.calls) + len(w2.calls) == 8)
        assert w1.calls, "power of two spreads a burst"
        await w1.kill()
        gate.set()
        answers = await waiting
        assert [answer.error for answer in answers] == [None] * 8
        assert all(answer.messages[0] == message_of("w2", 0) for answer in answers[-1:])
        await cluster.until_state("w1", LOST)
        before = len(w1.calls)
        assert [answer.error for answer in await ask_many(cluster, 20)] == [None] * 20
        assert len(w1.calls) == before
        cluster.router.pool.check_integrity()


async def test_calls_of_a_worker_that_died_need_no_retry_budget() -> None:
    """It takes only what it had with it; errors of a worker that lives do need it."""
    none = {"retry_budget_burst": 0.0, "retry_budget_ratio": 0.0, "retry_budget_per_s": 0.0}
    gate = asyncio.Event()
    w1, w2 = FakeWorker("w1", script=Script(gate=gate)), FakeWorker("w2", script=Script(gate=gate))
    async with small_cluster(w1, w2, death_verdict_s=0.1, **none) as cluster:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(ask_many(cluster, 8))
            await until(lambda: len(w1.calls) + len(w2.calls) == 8)
            await w1.kill()
            gate.set()
        assert [answer.error for answer in waiting.result()] == [None] * 8
        w2.script = Script(messages=0, error=Internal("x"))
        await cluster.add(FakeWorker("w3"))
        codes = {answer.code for answer in await ask_many(cluster, 8)}
        assert grpc.StatusCode.INTERNAL in codes
        await cluster.workers["w3"].stop()


async def test_without_migration_a_killed_worker_breaks_the_streams_that_it_had_begun() -> None:
    w1, w2 = FakeWorker("w1", script=Script(messages=1, hang=True)), FakeWorker("w2")
    async with small_cluster(w1, migrations_max=0) as cluster:
        call = start(cluster)
        assert await call.read() == message_of("w1", 0)
        await cluster.add(w2)
        await w1.kill()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (await cluster.ask()).error is None
        await w2.stop()


async def test_restarted_worker_serves_again_and_calls_wait_for_it() -> None:
    async with small_cluster(FakeWorker("w1"), wait_for_worker_s_max=5.0) as cluster:
        worker = cluster.workers["w1"]
        await worker.kill()
        await cluster.until_state("w1", LOST)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(cluster.ask())
            await until(lambda: cluster.router.dispatcher.in_flight == 1)
            await worker.start()
            cluster.registry.expire("w1")
            await cluster.registry.register(worker.instance())
            answer = await waiting
        assert answer.error is None
        assert cluster.endpoints()["w1"].incarnation == worker.incarnation


async def test_restarted_worker_is_not_used_under_its_old_registration() -> None:
    """The registry still shows the old start: its promises may not hold for the new one."""
    async with small_cluster(FakeWorker("w1"), wait_for_worker_s_max=0.2) as cluster:
        worker = cluster.workers["w1"]
        await worker.kill()
        await worker.start()
        await cluster.until_state("w1", LOST)
        answer = await cluster.ask()
        assert answer.error is not None
        assert answer.error.reason is Reason.NO_WORKER
        assert answer.error.retry_after_s
        assert worker.calls == []


async def test_draining_worker_gets_nothing_new_and_finishes_what_it_has() -> None:
    gate = asyncio.Event()
    async with small_cluster(FakeWorker("w1", script=Script(gate=gate))) as cluster:
        w1, w2 = cluster.workers["w1"], FakeWorker("w2")
        async with asyncio.TaskGroup() as group:
            running = group.create_task(cluster.ask())
            await until(lambda: len(w1.calls) == 1)
            await cluster.add(w2)
            w1.drain()
            await cluster.until_state("w1", DRAINING)
            await ask_many(cluster, 10)
            assert len(w1.calls) == 1
            assert len(w2.calls) == 10
            cluster.registry.expire("w1")
            await cluster.until_state("w1", None)
            gate.set()
        assert running.result().error is None
        assert running.result().messages[0] == message_of("w1", 0)
        await w2.stop()


async def test_refusal_of_a_draining_worker_is_never_seen() -> None:
    """The drain is faster than its news."""
    async with small_cluster(FakeWorker("w1"), FakeWorker("w2")) as cluster:
        cluster.workers["w1"].is_draining = True  # and no report says so yet
        answers = await ask_many(cluster, 10)
        assert [answer.error for answer in answers] == [None] * 10


async def test_drain_announced_by_the_registry_is_enough() -> None:
    async with small_cluster(FakeWorker("w1"), FakeWorker("w2")) as cluster:
        draining = cluster.workers["w1"].instance(state=InstanceState.DRAINING)
        await cluster.registrations["w1"].update(draining)
        await cluster.until_state("w1", DRAINING)
        await ask_many(cluster, 5)
        assert cluster.workers["w1"].calls == []


async def test_lost_registry_changes_nothing() -> None:
    async with small_cluster(FakeWorker("w1"), FakeWorker("w2")) as cluster:
        cluster.registry.go_away()
        await until(lambda: cluster.router.pool.snapshot().stale)
        assert [answer.error for answer in await ask_many(cluster, 10)] == [None] * 10
        await cluster.workers["w1"].kill()  # health on the data path decides
        assert [answer.error for answer in await ask_many(cluster, 10)] == [None] * 10
        await cluster.until_state("w1", LOST)
        cluster.registry.come_back()
        await until(lambda: not cluster.router.pool.snapshot().stale)
        assert (await cluster.ask()).error is None


async def test_burst_of_deletions_is_held_down_while_workers_answer() -> None:
    """A registry that was away longer than its leases forgets everybody at once."""
    async with small_cluster(FakeWorker("w1"), FakeWorker("w2"), hold_down_s_max=30.0) as cluster:
        cluster.registry.expire("w1")
        cluster.registry.expire("w2")
        assert [answer.error for answer in await ask_many(cluster, 10)] == [None] * 10
        assert set(cluster.endpoints()) == {"w1", "w2"}
        await cluster.workers["w1"].kill()
        await cluster.until_state("w1", None)
        assert (await cluster.ask()).error is None


async def test_hold_down_ends() -> None:
    async with small_cluster(
        FakeWorker("w1"), hold_down_s_max=0.1, wait_for_worker_s_max=0.1
    ) as cluster:
        cluster.registry.expire("w1")
        await cluster.until_state("w1", None)
        answer = await cluster.ask()
        assert answer.error is not None
        assert answer.error.reason is Reason.NO_WORKER, "known a moment ago: come back"


async def test_bad_registry_value_hides_nobody_else() -> None:
    async with small_cluster(FakeWorker("w1")) as cluster:
        cluster.registry.corrupt("w9", b"\xff not a worker")
        await cluster.add(FakeWorker("w2"))
        assert set(cluster.endpoints()) == {"w1", "w2"}
        await cluster.workers["w2"].stop()


async def test_silent_worker_gets_nothing_until_it_speaks_again() -> None:
    async with small_cluster(FakeWorker("w1"), FakeWorker("w2"), load_silence_s_max=0.2) as cluster:
        cluster.workers["w1"].silence()
        await cluster.until_state("w1", LOST)
        await ask_many(cluster, 5)
        assert cluster.workers["w1"].calls == []
        cluster.workers["w1"].silence(silent=False)
        await cluster.until_state("w1", READY)


async def test_call_on_a_worker_that_stays_silent_goes_elsewhere() -> None:
    """A worker that hangs with its connection open, as under SIGSTOP."""
    hung = FakeWorker("w1", script=Script(messages=0, hang=True))
    async with small_cluster(hung, load_silence_s_max=0.1, abandon_s=0.2) as cluster:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(cluster.ask())
            await until(lambda: len(hung.calls) == 1)
            await cluster.add(FakeWorker("w2"))
            hung.silence()
            answer = await waiting
        assert answer.error is None
        assert answer.messages[0] == message_of("w2", 0)
        await cluster.workers["w2"].stop()


async def test_without_migration_a_stream_on_a_worker_that_stays_silent_ends_with_the_loss() -> (
    None
):
    hung = FakeWorker("w1", script=Script(messages=1, hang=True))
    async with small_cluster(
        hung, load_silence_s_max=0.1, abandon_s=0.2, migrations_max=0
    ) as cluster:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(cluster.ask())
            await until(lambda: len(hung.calls) == 1)
            hung.silence()
            answer = await waiting
        assert len(answer.messages) == 1
        assert answer.error is not None
        assert answer.error.reason is Reason.WORKER_LOST
        async with asyncio.TaskGroup() as group:
            group.create_task(hung.calls[0].ended.wait())


async def test_word_to_a_worker_that_is_dead_is_lost_without_a_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dead = await FakeWorker().start()
    await dead.kill()
    channels = worker_channels(NoOpTracer(), message_bytes_max=1024)
    worker = GrpcWorker(channels, metadata=(), clock=SystemClock())
    worker.let_go(endpoint_of(dead.instance()), b"", Call(request_id="r", deadline=0.0))
    assert "used 1x" in repr(channels)
    await until(lambda: "used 0x" in repr(channels))
    gc.collect()
    assert caplog.records == []
    await channels.close()


async def test_tokenizing_on_a_worker_that_stays_silent_goes_elsewhere() -> None:
    """No deadline of the caller's is needed for that."""
    hung = FakeWorker("w1", script=Script(hang=True))
    async with small_cluster(hung, load_silence_s_max=0.1, abandon_s=0.2) as cluster:
        payload = inference_pb2.TokenizeRequest(model="tiny", text="x").SerializeToString()
        call: Any = cluster.channel.unary_unary("/lepton.v1.InferenceService/Tokenize")
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            waiting = group.create_task(_result(call(payload)))
            await until(lambda: len(hung.calls) == 1)
            await cluster.add(FakeWorker("w2"))
            hung.silence()
            await hung.calls[0].ended.wait()
        assert inference_pb2.TokenizeResponse.FromString(waiting.result()).token_ids == [1, 2, 3]
        assert hung.calls[0].is_cancelled
        assert [seen.method for seen in cluster.workers["w2"].calls] == ["Tokenize"]
        await cluster.workers["w2"].stop()


async def _result(call: Any) -> bytes:
    answer: bytes = await call
    return answer


async def test_calls_follow_the_reported_load() -> None:
    async with small_cluster(FakeWorker("w1"), FakeWorker("w2")) as cluster:
        cluster.workers["w1"].report(running=8, waiting=20)
        await until(lambda: cluster.endpoints()["w1"].load.waiting == 20)
        for _ in range(10):
            await cluster.ask()
        assert len(cluster.workers["w2"].calls) == 10


async def test_router_takes_in_flight_max_and_refuses_the_next() -> None:
    gate = asyncio.Event()
    async with small_cluster(
        FakeWorker("w1", script=Script(gate=gate)), in_flight_max=2
    ) as cluster:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(ask_many(cluster, 2))
            await until(lambda: cluster.router.dispatcher.in_flight == 2)
            refused = await cluster.ask()
            gate.set()
        assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.error is not None
        assert refused.error.reason is Reason.QUEUE_FULL
        assert refused.error.retry_after_s
        assert [answer.error for answer in running.result()] == [None, None]


async def test_drain_finishes_running_calls_and_refuses_new_ones() -> None:
    gate = asyncio.Event()
    async with small_cluster(FakeWorker("w1", script=Script(gate=gate))) as cluster:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(cluster.ask())
            await until(lambda: cluster.router.dispatcher.in_flight == 1)
            draining = group.create_task(cluster.router.drain())
            await until(lambda: cluster.router.dispatcher.is_refusing)
            refused = await cluster.ask()
            assert not draining.done()
            gate.set()
        assert running.result().error is None
        assert refused.error is not None
        assert refused.error.reason is Reason.DRAINING


async def test_drain_says_so_before_it_refuses() -> None:
    """Load balancers need a moment to notice; until then calls are still served."""
    async with small_cluster(FakeWorker("w1"), drain_delay_s=0.3) as cluster:
        health: Any = health_pb2_grpc.HealthStub(cluster.channel)

        async def status() -> int:
            response = await health.Check(health_pb2.HealthCheckRequest())
            return int(response.status)

        assert await status() == health_pb2.HealthCheckResponse.SERVING
        async with asyncio.TaskGroup() as group:
            group.create_task(cluster.router.drain())
            await cluster.router.leaving.wait()
            while not cluster.router.dispatcher.is_refusing:
                assert await status() == health_pb2.HealthCheckResponse.NOT_SERVING
                served = (await cluster.ask()).error
                assert served is None or cluster.router.dispatcher.is_refusing


async def test_drain_is_bounded() -> None:
    async with small_cluster(
        FakeWorker("w1", script=Script(messages=1, hang=True)), drain_s_max=0.1
    ) as cluster:
        call = start(cluster)
        await call.read()
        async with asyncio.timeout(20):  # less than the usual bound
            await cluster.router.drain()
        call.cancel()


async def test_router_that_comes_back_finds_the_workers_again() -> None:
    registry = MemoryRegistry()
    async with small_cluster(FakeWorker("w1"), registry=registry) as cluster:
        async with small_cluster(registry=registry) as second:
            await second.until_state("w1", READY)
            assert (await second.ask()).error is None
        assert (await cluster.ask()).error is None, "and its going disturbs nobody"


async def test_worker_that_leaves_has_its_channel_closed() -> None:
    async with small_cluster(FakeWorker("w1"), FakeWorker("w2")) as cluster:
        await cluster.ask()
        w1 = cluster.workers["w1"]
        w1.drain()
        await cluster.until_state("w1", DRAINING)
        await cluster.registrations["w1"].close()
        await cluster.until_state("w1", None)
        async with asyncio.timeout(PATIENCE_S):
            await w1.stop(grace_s=600)  # returns when the last connection's calls have ended
