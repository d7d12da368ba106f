"""The queue in front of the workers, with a real router, real clients and fake workers."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from common.errors import Reason
from common.rpc.metadata import CALLER_KEY
from common.telemetry import names
from lepton.v1 import inference_pb2, types_pb2
from router.core.admission.demand import Band
from tests.integration.test_router_telemetry import Recorder, metrics, recorder
from tests.support.fake_worker import FakeWorker, Script
from tests.support.patience import PATIENCE_S
from tests.support.small_cluster import GENERATE, Answer, SmallCluster, ask, small_cluster, until

__all__ = ["recorder"]

ROWS = 10
"""Eight rows of a fake worker and two calls of look-ahead."""


def waiting(cluster: SmallCluster) -> int:
    admission = cluster.router.admission
    return sum(admission.num_waiting(band) for band in Band)


def fill(cluster: SmallCluster, group: asyncio.TaskGroup, num: int) -> list[asyncio.Task[Answer]]:
    return [group.create_task(cluster.ask()) for _ in range(num)]


async def ask_as(cluster: SmallCluster, caller: str | bytes, key: str = CALLER_KEY) -> Answer:
    request = inference_pb2.GenerateRequest(model="tiny", text="hello")
    metadata: Any = ((key, caller),)
    return await ask(cluster.channel, request, metadata=metadata)


async def test_what_does_not_fit_waits_in_the_router_and_is_answered() -> None:
    gate = asyncio.Event()
    async with small_cluster(FakeWorker(script=Script(gate=gate)), queue_s_max=20) as cluster:
        async with asyncio.TaskGroup() as group:
            answers = fill(cluster, group, ROWS + 30)
            await until(lambda: waiting(cluster) == 30)
            assert len(cluster.workers["w1"].calls) == ROWS
            gate.set()
        assert [answer.result().error for answer in answers] == [None] * (ROWS + 30)
        assert waiting(cluster) == 0


async def test_without_the_queue_everything_lies_on_the_worker() -> None:
    """The negative control: a look-ahead without end is no admission."""
    gate = asyncio.Event()
    worker = FakeWorker(script=Script(gate=gate))
    async with small_cluster(worker, look_ahead=16) as cluster, asyncio.TaskGroup() as group:
        fill(cluster, group, ROWS + 30)
        await until(lambda: len(worker.calls) == ROWS + 30)
        gate.set()


async def test_urgent_calls_go_first() -> None:
    gate = asyncio.Event()
    async with small_cluster(FakeWorker(script=Script(gate=gate)), queue_s_max=20) as cluster:
        async with asyncio.TaskGroup() as group:
            fill(cluster, group, ROWS)
            await until(lambda: cluster.router.dispatcher.in_flight == ROWS)
            for index, priority in enumerate(("LOW", "NORMAL", "HIGH")):
                level = types_pb2.Priority.Value(f"PRIORITY_{priority}")
                group.create_task(cluster.ask(priority=level, request_id=priority))
                await until(lambda num=index + 1: waiting(cluster) == num)  # type: ignore[misc]
            gate.set()
        late = [call.metadata["lepton-request-id"] for call in cluster.workers["w1"].calls[ROWS:]]
        assert late == ["HIGH", "NORMAL", "LOW"]


async def test_client_that_goes_away_while_waiting_frees_its_place_and_reaches_no_worker() -> None:
    gate = asyncio.Event()
    async with small_cluster(FakeWorker(script=Script(gate=gate)), queue_s_max=20) as cluster:
        async with asyncio.TaskGroup() as group:
            fill(cluster, group, ROWS)
            await until(lambda: cluster.router.dispatcher.in_flight == ROWS)
            request = inference_pb2.GenerateRequest(model="tiny", text="x").SerializeToString()
            call: Any = cluster.channel.unary_stream(GENERATE)(request, timeout=PATIENCE_S)
            await until(lambda: waiting(cluster) == 1)
            call.cancel()
            await until(lambda: waiting(cluster) == 0)
            gate.set()
        assert len(cluster.workers["w1"].calls) == ROWS


async def test_deadline_while_waiting() -> None:
    gate = asyncio.Event()
    async with small_cluster(FakeWorker(script=Script(gate=gate)), queue_s_max=20) as cluster:
        async with asyncio.TaskGroup() as group:
            fill(cluster, group, ROWS)
            await until(lambda: cluster.router.dispatcher.in_flight == ROWS)
            late = await cluster.ask(timeout_s=0.2)
            assert late.code is grpc.StatusCode.DEADLINE_EXCEEDED
            await until(lambda: waiting(cluster) == 0)
            gate.set()
        assert len(cluster.workers["w1"].calls) == ROWS


async def test_drain_sends_those_who_wait_elsewhere_and_finishes_the_others() -> None:
    gate = asyncio.Event()
    async with small_cluster(FakeWorker(script=Script(gate=gate)), queue_s_max=20) as cluster:
        async with asyncio.TaskGroup() as group:
            answers = fill(cluster, group, ROWS + 5)
            await until(lambda: waiting(cluster) == 5)
            draining = group.create_task(cluster.router.drain())
            await until(lambda: sum(answer.done() for answer in answers) == 5)
            told = {answer.result().error for answer in answers if answer.done()}
            assert {error.reason for error in told if error} == {Reason.DRAINING}
            assert not draining.done()
            gate.set()
        finished = [answer for answer in answers if answer.result().error is None]
        assert len(finished) == ROWS


async def test_refusals_are_typed_say_when_to_come_back_and_are_counted() -> None:
    gate = asyncio.Event()
    worker = FakeWorker(script=Script(gate=gate))
    async with small_cluster(
        worker, queue_s_max=20, queue_max=4, queue_per_caller_max=3
    ) as cluster:
        async with asyncio.TaskGroup() as group:
            fill(cluster, group, ROWS)
            await until(lambda: cluster.router.dispatcher.in_flight == ROWS)
            for _ in range(3):
                group.create_task(ask_as(cluster, "large"))
            await until(lambda: waiting(cluster) == 3)
            of_caller = await ask_as(cluster, "large")
            group.create_task(ask_as(cluster, "small"))
            await until(lambda: waiting(cluster) == 4)
            full = await cluster.ask(priority=types_pb2.PRIORITY_LOW)
            impatient = await cluster.ask(service_level={"queue_timeout_ms": 0})
            gate.set()
        refused = [answer.error for answer in (of_caller, full, impatient)]
        assert [error and error.reason for error in refused] == [
            Reason.CALLER_QUEUE_FULL,
            Reason.QUEUE_FULL,
            Reason.QUEUE_TIMEOUT,
        ]
        assert all(error is not None and error.retry_after_s for error in refused)
        seen = await metrics(cluster)
        for reason in ("CALLER_QUEUE_FULL", "QUEUE_FULL", "QUEUE_TIMEOUT"):
            assert seen[f'lepton_refusals_total{{reason="{reason}"}}'] == 1
        assert seen['lepton_queue_wait_seconds_count{band="normal"}'] == ROWS + 4
        assert seen['lepton_queue_waiting{band="normal"}'] == 0


async def test_wait_is_a_span_of_the_trace(recorder: Recorder) -> None:
    gate = asyncio.Event()
    worker = FakeWorker(script=Script(gate=gate))
    async with small_cluster(worker, telemetry=recorder.telemetry, queue_s_max=20) as cluster:
        async with asyncio.TaskGroup() as group:
            fill(cluster, group, ROWS + 1)
            await until(lambda: waiting(cluster) == 1)
            gate.set()
        (span,) = recorder.named(names.ADMISSION_SPAN)
        assert span.attributes is not None
        queued_s = span.attributes[names.LEPTON_QUEUED_S]
        assert isinstance(queued_s, float)
        assert queued_s > 0


@pytest.mark.parametrize("caller", ["x" * 129, "two words", "x" * 7000])
async def test_malformed_caller_is_refused_and_hurts_nobody(caller: str) -> None:
    async with small_cluster(FakeWorker()) as cluster:
        refused = await ask_as(cluster, caller)
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.error is not None
        assert refused.error.reason is Reason.FIELD_MALFORMED
        assert refused.error.field == CALLER_KEY
        assert (await ask_as(cluster, "x" * 128)).error is None
        assert (await ask_as(cluster, b"\x00\xff", f"{CALLER_KEY}-bin")).error is None
        assert (await cluster.ask()).error is None
        assert len(cluster.workers["w1"].calls) == 3


async def test_ten_thousand_names_cost_nobody_else_and_leave_nothing() -> None:
    """Each with a call of its own that waits as long as there is room; the metrics never see a name."""
    gate = asyncio.Event()
    async with small_cluster(
        FakeWorker(script=Script(gate=gate)), queue_s_max=20, queue_max=100, queue_callers_max=16
    ) as cluster:
        refused = 0
        async with asyncio.TaskGroup() as group:
            fill(cluster, group, ROWS)
            await until(lambda: cluster.router.dispatcher.in_flight == ROWS)
            patient = [group.create_task(ask_as(cluster, f"name-{i}")) for i in range(100)]
            await until(lambda: waiting(cluster) == 100)
            request = inference_pb2.GenerateRequest(model="tiny", text="x").SerializeToString()
            for _ in range(10):
                burst = [
                    cluster.channel.unary_stream(GENERATE)(
                        request, timeout=PATIENCE_S, metadata=((CALLER_KEY, f"more-{number}"),)
                    )
                    for number in range(100)
                ]
                codes = await asyncio.gather(*(call.code() for call in burst))
                refused += codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED)
                assert waiting(cluster) == 100
            gate.set()
        assert refused == 1000
        assert all(answer.result().error is None for answer in patient)
        assert not [key for key in await metrics(cluster) if "name-" in key or "more-" in key]
        assert (await cluster.ask()).error is None


async def test_overload_is_refused_early_while_what_was_accepted_is_answered() -> None:
    """Eight times what the worker can, for a second: refusals come at once, accepted calls in time, none is lost."""

    class Slow(FakeWorker):
        async def _generate(self, payload: bytes, context: Any) -> None:
            await asyncio.sleep(0.05)  # noqa: TID251 - the work
            await super()._generate(payload, context)

    async with small_cluster(Slow(), queue_s_max=0.3) as cluster:
        answers: list[asyncio.Task[Answer]] = []
        async with asyncio.TaskGroup() as group:
            for _ in range(100):
                answers += fill(cluster, group, 12)
                await asyncio.sleep(0.01)  # noqa: TID251 - an open loop
        errors = [answer.result().error for answer in answers]
        reasons = {error.reason for error in errors if error is not None}
        assert reasons == {Reason.WOULD_BE_LATE}
        assert errors.count(None) == len(cluster.workers["w1"].calls)
        assert errors.count(None) >= 100
        assert waiting(cluster) == 0
        assert (await cluster.ask()).error is None
