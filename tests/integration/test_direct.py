"""Direct mode over real gRPC: a router picks, the client streams from the worker, and survives its loss."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from cli.client import Client
from common.errors import LeptonError, Overloaded, Reason, Unavailable
from common.rpc.metadata import CALLER_KEY
from common.rpc.status import from_rpc_error
from lepton.v1 import inference_pb2, inference_pb2_grpc, types_pb2
from router.core.endpoint import EndpointState
from tests.support.fake_worker import FakeWorker, Script, ticket_of
from tests.support.patience import PATIENCE_S
from tests.support.small_cluster import SmallCluster, small_cluster, until
from tests.support.story import Told, story_of

TOKENS = 12
WHOLE = Script(story=TOKENS)
DIES = Script(story=TOKENS, stops_after=5, dies=True)
STORY = list(story_of(inference_pb2.GenerateRequest(text="hello"), worker_id="w1", tokens=TOKENS))
FAULTS = {
    "dies": DIES,
    "hangs": Script(story=TOKENS, stops_after=5, hang=True),
    "ends_too_soon": Script(story=TOKENS - 3, stops_after=5, finished=False),
    "skips": Script(messages=[STORY[0], STORY[1], STORY[3]]),
    "drains": Script(story=TOKENS, stops_after=5, error=Unavailable("bye", reason=Reason.DRAINING)),
}

HELLO = inference_pb2.GenerateRequest(model="tiny", text="hello")


@asynccontextmanager
async def direct_cluster(
    *workers: FakeWorker, losses_max: int = 2, silence_s: float = 0.2, **settings: Any
) -> AsyncIterator[tuple[SmallCluster, Client]]:
    settings = {"death_verdict_s": 0.3, **settings}
    async with small_cluster(*workers, **settings) as cluster:
        address = f"127.0.0.1:{cluster.router.port}"
        client = Client(address, direct=True, losses_max=losses_max, silence_s=silence_s)
        async with client:
            yield cluster, client
        cluster.router.dispatcher.direct.handouts.check_integrity()


async def told(client: Client, **fields: Any) -> Told:
    request = inference_pb2.GenerateRequest()
    request.CopyFrom(HELLO)
    request.MergeFrom(inference_pb2.GenerateRequest(**fields))
    async with asyncio.timeout(PATIENCE_S):
        return Told([event async for event in client.generate(request, timeout_s=15)])


async def pick(
    cluster: SmallCluster,
    request: inference_pb2.GenerateRequest = HELLO,
    *,
    caller: str = "",
    timeout_s: float = 10.0,
    **fields: Any,
) -> inference_pb2.PickResponse:
    stub = inference_pb2_grpc.InferenceServiceStub(cluster.channel)  # type: ignore[no-untyped-call]
    asked = inference_pb2.PickRequest(request=request, **fields)
    metadata = ((CALLER_KEY, caller),) if caller else ()
    try:
        picked: inference_pb2.PickResponse = await stub.Pick(
            asked, timeout=timeout_s, metadata=metadata
        )
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None
    return picked


async def until_idle(cluster: SmallCluster) -> None:
    await until(lambda: cluster.router.dispatcher.in_flight == 0, what="no calls in the books")
    assert len(cluster.router.dispatcher.direct.handouts) == 0
    await until(lambda: all(e.in_flight == 0 for e in cluster.endpoints().values()))


async def test_direct_answer_is_the_relayed_one_and_nothing_of_it_passes_the_router() -> None:
    worker = FakeWorker("w1", script=WHOLE)
    async with direct_cluster(worker) as (cluster, client):
        direct = await told(client)
        relayed = await cluster.ask()
        assert direct.events == Told.of(relayed.messages).events
        seen, _ = worker.calls
        assert "lepton-router-id" not in seen.metadata, "the client itself called"
        await until_idle(cluster)


@pytest.mark.parametrize("fault", FAULTS)
async def test_stream_goes_on_with_another_worker(fault: str) -> None:
    workers = [FakeWorker(name, script=FAULTS[fault]) for name in ("w1", "w2")]
    for worker in workers:
        worker.continued = WHOLE
    async with direct_cluster(*workers) as (cluster, client):
        story = await told(client)
        story.check(TOKENS)
        assert [len(worker.calls) for worker in workers] == [1, 1]
        await until_idle(cluster)
        assert cluster.router.dispatcher.num_suspects == 0


@pytest.mark.parametrize("fault", FAULTS)
async def test_without_migration_the_same_stream_fails(fault: str) -> None:
    workers = [FakeWorker(name, script=FAULTS[fault]) for name in ("w1", "w2")]
    async with direct_cluster(*workers, losses_max=0) as (_, client):
        with pytest.raises(LeptonError):
            await told(client)
        assert sum(len(worker.calls) for worker in workers) == 1


async def test_every_choice_goes_on_where_it_was_and_hidden_ids_stay_hidden() -> None:
    dies = Script(story=TOKENS, stops_after=3 * TOKENS - 2, dies=True)
    workers = [FakeWorker(name, script=dies) for name in ("w1", "w2")]
    for worker in workers:
        worker.continued = WHOLE
    async with direct_cluster(*workers) as (_, client):
        story = await told(
            client,
            sampling=types_pb2.SamplingParams(n=3),
            output=types_pb2.OutputOptions(token_ids=False),
        )
        story.check(TOKENS, num_choices=3, with_ids=False)


async def test_two_losses_are_survived_and_a_third_is_told() -> None:
    dies = Script(story=TOKENS, stops_after=4, dies=True)
    workers = [FakeWorker(f"w{n}", script=dies) for n in range(1, 5)]
    # Four tokens are out sooner than a load report could clear a suspect.
    async with direct_cluster(*workers, quarantine_s=0.0) as (_, client):
        with pytest.raises(Unavailable) as caught:
            await told(client)
        assert caught.value.reason is Reason.WORKER_LOST
        assert sum(worker.num_deaths for worker in workers) == 3


async def test_stream_never_goes_on_with_other_weights() -> None:
    first = FakeWorker("w1", script=DIES)
    other = FakeWorker("w2", script=WHOLE, revision="bbbbbbbb00000000")
    other.report(running=8, waiting=20)
    async with direct_cluster(first, other, policy="least_loaded") as (_, client):
        with pytest.raises(Unavailable) as caught:
            await told(client)
        assert caught.value.reason is Reason.REVISION_GONE
        assert other.calls == []


async def test_alias_is_resolved_and_stays_what_it_was() -> None:
    worker = FakeWorker("w1", script=FAULTS["drains"])
    other = FakeWorker("w2", script=FAULTS["drains"])
    worker.continued = other.continued = WHOLE
    async with direct_cluster(worker, other, aliases="chat=tiny") as (_, client):
        (await told(client, model="chat")).check(TOKENS)
        for seen in (*worker.calls, *other.calls):
            request = inference_pb2.GenerateRequest.FromString(seen.payload)
            assert (request.model, request.revision) == ("tiny", worker.revision)


async def test_burst_of_picks_spreads() -> None:
    workers = [FakeWorker(f"w{n}") for n in range(1, 5)]
    async with direct_cluster(*workers) as (cluster, _):
        picks = await asyncio.gather(*(pick(cluster) for _ in range(32)))
        spread = Counter(p.worker_id for p in picks)
        assert len(spread) == 4
        assert max(spread.values()) <= 10, spread
        assert len({p.ticket for p in picks}) == 32
        assert cluster.router.dispatcher.in_flight == 32


async def test_used_tickets_count_until_the_worker_says_that_the_call_has_ended() -> None:
    gate = asyncio.Event()
    worker = FakeWorker("w1", script=Script(story=TOKENS, gate=gate))
    async with direct_cluster(worker) as (cluster, client):
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(told(client))
            await until(lambda: cluster.endpoints()["w1"].load.tickets.taken == 1)
            endpoint = cluster.endpoints()["w1"]
            assert (endpoint.in_flight, endpoint.unreported) == (1, 0)
            gate.set()
        answer.result().check(TOKENS)
        await until_idle(cluster)


async def test_full_cluster_refuses_a_pick_and_says_when_to_come_back() -> None:
    worker = FakeWorker("w1")
    async with direct_cluster(worker, queue_s_max=0.1) as (cluster, _):
        picks = [await pick(cluster)]
        (line,) = cluster.router.admission._lines.values()
        picks += [await pick(cluster) for _ in range(line.line.capacity - 1)]
        with pytest.raises(Overloaded) as caught:
            await pick(cluster)
        assert caught.value.retry_after_s
        # What was accepted goes on all the same, when its worker is lost.
        await worker.kill()
        await cluster.until_state("w1", EndpointState.LOST)
        second = await cluster.add(FakeWorker("w2"))
        try:
            with pytest.raises(Overloaded):
                await asyncio.gather(*(pick(cluster) for _ in range(40)))
            moved = await pick(cluster, failed_tickets=[picks[0].ticket])
            assert moved.worker_id == "w2"
        finally:
            await second.stop()


async def test_client_that_cries_wolf_moves_but_its_worker_stays_trusted() -> None:
    workers = [FakeWorker("w1"), FakeWorker("w2")]
    async with direct_cluster(*workers) as (cluster, _):
        first = await pick(cluster)
        second = await pick(cluster, failed_tickets=[first.ticket])
        assert first.worker_id != second.worker_id
        assert {e.state for e in cluster.endpoints().values()} == {EndpointState.READY}
        assert cluster.router.dispatcher.in_flight == 2, "both may be in use"


async def test_poison_ends_two_workers_and_hurts_nobody_else() -> None:
    workers = [FakeWorker(f"w{n}", script=WHOLE) for n in range(1, 5)]
    for worker in workers:
        worker.poison = "poison"
    async with direct_cluster(*workers) as (cluster, client):
        with pytest.raises(LeptonError) as caught:
            await told(client, text="poison")
        assert caught.value.reason is Reason.POISON_REQUEST
        assert sum(worker.num_deaths for worker in workers) == 2
        with pytest.raises(LeptonError) as caught:
            await told(client, text="poison")
        assert caught.value.reason is Reason.POISON_REQUEST
        (await told(client)).check(TOKENS)
        assert sum(worker.num_deaths for worker in workers) == 2
        await until_idle(cluster)


async def test_without_quarantine_poison_ends_a_third_worker() -> None:
    workers = [FakeWorker(f"w{n}", script=WHOLE) for n in range(1, 5)]
    for worker in workers:
        worker.poison = "poison"
    async with direct_cluster(*workers, quarantine_s=0.0) as (_, client):
        with pytest.raises(LeptonError):
            await told(client, text="poison")
        assert sum(worker.num_deaths for worker in workers) == 3


async def test_suspect_is_on_probation_until_it_has_produced_something() -> None:
    """Beside the one that dies: a stream that was on the same worker, and is innocent."""
    workers = [FakeWorker(f"w{n}", script=WHOLE) for n in range(1, 3)]
    gate = asyncio.Event()
    workers[0].script = Script(story=TOKENS, stops_after=5, dies=True)
    workers[1].script = Script(story=TOKENS, gate=gate)
    workers[1].report(running=8, waiting=20)
    async with direct_cluster(*workers, policy="least_loaded") as (cluster, client):
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(told(client))
            await until(lambda: len(workers[1].calls) == 1)
            assert ticket_of(workers[1].calls[0].metadata).on_probation
            assert cluster.router.dispatcher.num_suspects == 1
            gate.set()
        answer.result().check(TOKENS)
        await until(lambda: cluster.router.dispatcher.num_suspects == 0)


async def test_draining_router_lets_go_of_streams_that_it_does_not_relay() -> None:
    gate = asyncio.Event()
    worker = FakeWorker("w1", script=Script(story=TOKENS, gate=gate))
    async with direct_cluster(worker) as (cluster, client):
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(told(client))
            await until(lambda: worker.num_running == 1)
            await cluster.router.drain()
            assert cluster.router.dispatcher.in_flight == 0
            gate.set()
        answer.result().check(TOKENS)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"request": {"text": "x", "resumable_ms": 100}}, Reason.FIELDS_CONTRADICT),
        ({"request": {"text": "x", "idempotency_key": "k"}}, Reason.FIELDS_CONTRADICT),
        ({"request": {"text": ""}}, Reason.PROMPT_EMPTY),
        ({"request": {"text": "x", "model": "nobody"}}, Reason.MODEL_NOT_FOUND),
        (
            {"request": {"text": "x", "continuation": {"next_seq": 1, "attempt": 1}}},
            Reason.ROUTER_ONLY_FIELD,
        ),
        ({"failed_tickets": ["made up"]}, Reason.TICKET_INVALID),
        ({"failed_tickets": ["x"] * 33}, Reason.FIELD_TOO_LARGE),
        ({"origin": {"worker_id": "w1"}}, Reason.FIELD_REQUIRED),
        (
            {"origin": {"worker_id": "w1", "model": "tiny", "revision": "f" * 64}},
            Reason.REVISION_GONE,
        ),
    ],
)
async def test_bad_picks_are_refused_and_leave_nothing(
    fields: dict[str, Any], reason: Reason
) -> None:
    async with direct_cluster(FakeWorker("w1"), wait_for_worker_s_max=0.05) as (cluster, _):
        request = inference_pb2.GenerateRequest(**fields.pop("request", {"text": "x"}))
        with pytest.raises(LeptonError) as caught:
            await pick(cluster, request, **fields)
        assert caught.value.reason is reason
        await until(lambda: cluster.router.dispatcher.in_flight == 0)


async def test_ticket_of_another_caller_is_refused() -> None:
    async with direct_cluster(FakeWorker("w1")) as (cluster, _):
        mine = await pick(cluster, caller="ann")
        with pytest.raises(LeptonError) as caught:
            await pick(cluster, caller="bob", failed_tickets=[mine.ticket])
        assert caught.value.reason is Reason.TICKET_INVALID


async def test_client_that_leaves_while_it_waits_leaves_the_line() -> None:
    async with direct_cluster(FakeWorker("w1")) as (cluster, _):
        await pick(cluster)
        (line,) = cluster.router.admission._lines.values()
        for _ in range(line.line.capacity - 1):
            await pick(cluster)
        waiting = asyncio.ensure_future(pick(cluster))
        await until(lambda: bool(line.line.room))
        waiting.cancel()
        await until(lambda: not line.line.room)
