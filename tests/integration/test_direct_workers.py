"""Direct mode with real workers: what tickets prove, what is counted, and the same answer to the bit after a kill."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, final

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from pydantic import SecretStr

from cli.client import Client
from common.call_ticket import CallTicket, CallTickets
from common.clock import SystemClock
from common.cluster import ClusterSettings
from common.discovery.memory import MemoryRegistry
from common.errors import LeptonError, Reason
from common.rpc.metadata import CALLER_KEY, TICKET_KEY
from common.rpc.status import from_rpc_error
from lepton.v1 import inference_pb2, inference_pb2_grpc, types_pb2
from router.app import Router, running
from router.config import Config
from router.core.endpoint import EndpointState
from router.settings import RouterSettings
from tests.support.continuation import continued, whole
from tests.support.patience import PATIENCE_S
from tests.support.processes import DEMO_MODEL, until
from tests.support.resuming import ResumingCluster, request, resuming_cluster, text_of
from tests.support.tiny_models import load_tiny
from tests.support.worker import LocalWorker, worker_of
from worker.app import facts_of
from worker.engine.ports import Batch, ModelRunner, Sampled

ASKED = request(resumable_ms=0)


async def pick(
    channel: grpc.aio.Channel, *, caller: str = "", **fields: Any
) -> inference_pb2.PickResponse:
    stub = inference_pb2_grpc.InferenceServiceStub(channel)  # type: ignore[no-untyped-call]
    metadata = ((CALLER_KEY, caller),) if caller else ()
    try:
        picked: inference_pb2.PickResponse = await stub.Pick(
            inference_pb2.PickRequest(request=ASKED, **fields),
            timeout=PATIENCE_S,
            metadata=metadata,
        )
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None
    return picked


def client_of(cluster: ResumingCluster, **options: Any) -> Client:
    return Client(f"127.0.0.1:{cluster.routers[0].port}", direct=True, **options)


def forged(worker_id: str, *, secret: str = "sesame", **changes: Any) -> str:  # noqa: S107
    fields = {
        "router_id": "r0",
        "number": 7,
        "worker_id": worker_id,
        "incarnation": "x",
        "expires_at": SystemClock().wall() + 5,
        **changes,
    }
    return CallTickets(SecretStr(secret)).make(CallTicket(**fields), "")


async def test_killed_worker_is_followed_by_another_one() -> None:
    async with resuming_cluster(num_routers=1) as cluster, client_of(cluster) as client:
        events: list[inference_pb2.Event] = []
        killed = False
        cluster.pace.allow(4)
        async with asyncio.timeout(PATIENCE_S):
            async for event in client.generate(ASKED):
                events.append(event)
                if len("".join(e.delta.text for e in events)) == 4 and not killed:
                    killed = True
                    await cluster.kill(events[0].started.worker_id)
                    cluster.pace.free()
        assert sum(event.HasField("migrated") for event in events) == 1
        assert whole(events)["choices"][0]["text"] == text_of(20)
        await until(lambda: cluster.routers[0].dispatcher.in_flight == 0, what="empty books")


async def test_without_migration_the_same_kill_ends_the_answer() -> None:
    async with (
        resuming_cluster(num_routers=1) as cluster,
        client_of(cluster, losses_max=0) as client,
    ):
        cluster.pace.allow(4)

        async def ask_and_kill() -> None:
            async for event in client.generate(ASKED):
                if event.HasField("started"):
                    await cluster.kill(event.started.worker_id)
                    cluster.pace.free()

        with pytest.raises(LeptonError) as caught:
            await ask_and_kill()
        assert caught.value.reason is Reason.WORKER_LOST


async def test_worker_counts_direct_calls_for_the_router_that_picked() -> None:
    async with resuming_cluster(["w1"], num_routers=2) as cluster, client_of(cluster) as client:
        (worker,) = cluster.workers.values()
        cluster.pace.allow(2)

        async def told() -> list[inference_pb2.Event]:
            return [event async for event in client.generate(ASKED)]

        async with asyncio.TaskGroup() as group:
            answer = group.create_task(told())
            await until(lambda: _load(cluster.routers[0]).tickets.taken == 1, what="")
            assert worker.running.in_flight.num_calls_of("r0") == 1
            await until(lambda: _load(cluster.routers[1]).running == 1, what="")
            assert _load(cluster.routers[1]).in_flight_of_router == 0
            cluster.pace.free()
        assert whole(answer.result())["choices"][0]["text"] == text_of(20)
        await until(lambda: _load(cluster.routers[0]).tickets.completed == 1, what="")
        counts = _load(cluster.routers[0]).tickets
        assert (counts.taken, counts.ended, counts.completed) == (1, 1, 1)
        dispatcher = cluster.routers[0].dispatcher
        await until(lambda: dispatcher.in_flight == 0, what="empty books")


def _load(router: Router) -> Any:
    (endpoints,) = router.pool.snapshot().models.values()
    return endpoints[0].load


async def test_only_with_a_ticket_may_a_client_send_a_continuation() -> None:
    async with resuming_cluster(["w1"], num_routers=1) as cluster:
        cluster.pace.free()
        (worker,) = cluster.workers.values()
        picked = await pick(cluster.channels[0])
        first = await worker.ask(ASKED, metadata=[(TICKET_KEY, picked.ticket)])
        first.check_whole()
        rest = continued(ASKED, first.events[:6])
        refused = await worker.ask(rest)
        assert refused.error is not None
        assert refused.error.reason is Reason.ROUTER_ONLY_FIELD
        picked = await pick(cluster.channels[0])
        answer = await worker.ask(rest, metadata=[(TICKET_KEY, picked.ticket)])
        assert whole([*first.events[:6], *answer.events]) == whole(first.events)
        used_up = await worker.ask(rest, metadata=[(TICKET_KEY, picked.ticket)])
        assert used_up.error is not None
        assert used_up.error.reason is Reason.TICKET_INVALID


@pytest.mark.parametrize(
    ("ticket", "reason"),
    [
        ("made up", Reason.TICKET_INVALID),
        ("", Reason.TICKET_INVALID),
        ("A" * 2000, Reason.TICKET_INVALID),
        (forged("w1", secret="another"), Reason.TICKET_INVALID),
        (forged("w2"), Reason.TICKET_INVALID),
        (forged("w1", expires_at=1000.0), Reason.TICKET_EXPIRED),
    ],
)
async def test_ticket_that_does_not_hold_is_refused_before_anything_is_computed(
    ticket: str, reason: Reason
) -> None:
    async with resuming_cluster(["w1"], num_routers=1) as cluster:
        (worker,) = cluster.workers.values()
        answer = await worker.ask(ASKED, metadata=[(TICKET_KEY, ticket)])
        assert answer.error is not None
        assert answer.error.reason is reason
        assert answer.error.field == TICKET_KEY
        assert cluster.pace.num_tokens == 0
        cluster.pace.free()
        (await worker.ask(ASKED)).check_whole()


async def test_ticket_belongs_to_its_caller() -> None:
    async with resuming_cluster(["w1"], num_routers=1) as cluster:
        cluster.pace.free()
        (worker,) = cluster.workers.values()
        picked = await pick(cluster.channels[0], caller="ann")
        stolen = await worker.ask(
            ASKED, metadata=[(TICKET_KEY, picked.ticket), (CALLER_KEY, "bob")]
        )
        assert stolen.error is not None
        assert stolen.error.reason is Reason.TICKET_INVALID
        own = await worker.ask(ASKED, metadata=[(TICKET_KEY, picked.ticket), (CALLER_KEY, "ann")])
        own.check_whole()


async def test_worker_picks_itself() -> None:
    async with resuming_cluster(["w1"], num_routers=1) as cluster:
        cluster.pace.free()
        (worker,) = cluster.workers.values()
        picked = await pick(worker.channel)
        assert picked.address == worker.running.address
        async with Client(worker.running.address, direct=True) as client:
            events = [event async for event in client.generate(ASKED)]
        assert whole(events)["choices"][0]["text"] == text_of(20)
        with pytest.raises(LeptonError) as caught:
            await pick(worker.channel, failed_tickets=["made up"])
        assert caught.value.reason is Reason.TICKET_INVALID
        worker.running.in_flight.drain()
        with pytest.raises(LeptonError) as caught:
            await pick(worker.channel)
        assert caught.value.reason is Reason.DRAINING


CHAT = inference_pb2.GenerateRequest(
    chat=types_pb2.ChatInput(
        messages=[types_pb2.ChatMessage(role=types_pb2.ROLE_USER, content="What is 12 + 34?")]
    ),
    sampling=types_pb2.SamplingParams(
        temperature=0.8, seed=3, n=2, presence_penalty=0.5, repetition_penalty=1.1
    ),
    stop=types_pb2.StopConditions(max_tokens=24, ignore_eos=True),
    output=types_pb2.OutputOptions(logprobs=2),
)


@final
class HeldRunner:
    """The demo model, which stops in the middle of an answer until it may go on."""

    def __init__(self, runner: ModelRunner, go_on: threading.Event) -> None:
        self._runner = runner
        self._go_on = go_on
        self._num_steps = 0
        self.layout = runner.layout
        self.rest, self.release = runner.rest, runner.release

    def run(self, batch: Batch) -> list[Sampled]:
        self._num_steps += 1
        if self._num_steps > 9:
            self._go_on.wait(20)
        return self._runner.run(batch)


@asynccontextmanager
async def demo_cluster(
    go_on: threading.Event,
) -> AsyncIterator[tuple[Router, dict[str, LocalWorker]]]:
    registry, workers = MemoryRegistry(), {}
    async with AsyncExitStack() as stack:
        for worker_id, rows_max in (("w1", 6), ("w2", 5)):
            loaded = load_tiny(DEMO_MODEL, rows_max=rows_max, context_max=256)
            workers[worker_id] = await stack.enter_async_context(
                worker_of(
                    HeldRunner(loaded.runner, go_on),
                    model=replace(facts_of(loaded), name="demo"),
                    tokenizer=loaded.tokenizer,
                    worker_id=worker_id,
                    found_in=registry,
                    token="sesame",
                )
            )
        router = await stack.enter_async_context(
            running(
                Config(
                    router=RouterSettings(port=0, metrics_port=0, load_interval_ms=20),
                    cluster=ClusterSettings.model_validate({"token": "sesame"}),
                ),
                watcher=registry,
                tracer=TracerProvider(shutdown_on_exit=False).get_tracer("test"),
                clock=SystemClock(),
            )
        )
        await until(
            lambda: (
                [e.state for es in router.pool.snapshot().models.values() for e in es]
                == [EndpointState.READY] * 2
            ),
            what="two workers",
        )
        stack.callback(go_on.set)  # first of all: an engine that waits cannot end
        yield router, workers


async def test_the_demo_model_gives_the_same_answer_to_the_bit_over_two_workers() -> None:
    go_on = threading.Event()
    async with (
        demo_cluster(go_on) as (router, workers),
        Client(f"127.0.0.1:{router.port}", direct=True) as client,
    ):
        events: list[inference_pb2.Event] = []
        async with asyncio.timeout(PATIENCE_S):
            async for event in client.generate(CHAT):
                events.append(event)
                told = {e.delta.index for e in events if e.HasField("delta")}
                if told == {0, 1} and not go_on.is_set():
                    running_worker = workers[events[0].started.worker_id].running
                    await running_worker._server.stop(0)
                    go_on.set()
        assert sum(event.HasField("migrated") for event in events) == 1
        left = workers[next(e.migrated.to_worker_id for e in events if e.HasField("migrated"))]
        undisturbed = await left.ask(CHAT)
        assert whole(events) == whole(undisturbed.events)
