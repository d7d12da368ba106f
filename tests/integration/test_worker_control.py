"""Load, drain, facts, spans and numbers of one worker over real gRPC."""

from __future__ import annotations

import asyncio
import itertools
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from common.clock import SystemClock
from common.discovery.api import InstanceState
from common.errors import Internal
from common.rpc.channel import open_channel
from common.rpc.status import from_rpc_error
from lepton.v1 import inference_pb2, types_pb2, worker_pb2
from tests.support.fake_runner import FakeRunner, fake_completion
from tests.support.patience import PATIENCE_S
from tests.support.processes import until
from tests.support.worker import ByteTokenizer, LocalWorker, worker_of
from worker.app import until_stopped
from worker.engine.golden import GoldenQuestion
from worker.settings import WorkerSettings

SERVICE = "/lepton.v1.WorkerService/"
TOKEN = (("lepton-cluster-token", "secret"),)


class LoadWatch:
    """Follows WatchLoad and keeps what came."""

    def __init__(self, worker: LocalWorker, *, router_id: str = "r1", interval_ms: int = 1000):
        request = worker_pb2.WatchLoadRequest(router_id=router_id, interval_ms=interval_ms)
        self.call: Any = worker.channel.unary_stream(SERVICE + "WatchLoad")(
            request.SerializeToString(), metadata=TOKEN
        )
        self.reports: list[worker_pb2.WatchLoadResponse] = []

    async def until(self, condition: Any) -> worker_pb2.WatchLoadResponse:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                raw = await self.call.read()
                assert raw is not grpc.aio.EOF
                report = worker_pb2.WatchLoadResponse.FromString(raw)
                self.reports.append(report)
                if condition(report):
                    return report


async def test_load_is_pushed_at_once_and_follows_the_work() -> None:
    runner = FakeRunner(num_slots=2, capacity=64)
    async with worker_of(runner, token="secret") as worker:
        mine, other = LoadWatch(worker), LoadWatch(worker, router_id="r2")
        first = await mine.until(lambda _: True)
        assert first.state == worker_pb2.WORKER_STATE_SERVING
        assert (first.running, first.waiting, first.rows_max) == (0, 0, 2)
        assert not first.HasField("step_ends_in_ms")
        with runner.hold():
            calls = [
                asyncio.ensure_future(
                    worker.ask("abc", stop={"max_tokens": 9}, metadata=[("lepton-router-id", "r1")])
                )
                for _ in range(3)
            ]
            busy = await mine.until(
                lambda r: r.in_flight_of_router == 3 and r.running + r.waiting == 3
            )
            assert busy.HasField("step_ends_in_ms")
            theirs = await other.until(lambda r: r.running + r.waiting == 3)
            assert theirs.in_flight_of_router == 0
        for answer in await asyncio.gather(*calls):
            answer.check_whole()
        idle = await mine.until(lambda r: r.in_flight_of_router == 0 and r.running == 0)
        assert idle.step > first.step
        assert idle.incarnation == first.incarnation != ""
        mine.call.cancel()
        other.call.cancel()


async def test_a_row_that_a_cancelled_call_leaves_is_reported_free_at_once() -> None:
    """Not at the end of the interval, for which routers would take the worker for busy."""
    runner = FakeRunner(num_slots=2, capacity=64)
    async with worker_of(runner, token="secret") as worker:
        watch = LoadWatch(worker, interval_ms=10_000)
        with runner.hold():
            request = inference_pb2.GenerateRequest(text="abc")
            call = worker.call(request.SerializeToString())
            await watch.until(lambda r: r.running == 1)
            call.cancel()
            await until(lambda: worker.running.in_flight.num_calls == 0, what="no call")
            # Long enough that the load is looked at while the step still runs.
            await worker.running.in_flight.changed(0.1)
        await watch.until(lambda r: r.running == 0)
        watch.call.cancel()


async def test_load_tells_how_fast_the_engine_is() -> None:
    async with worker_of(FakeRunner(capacity=64), token="secret") as worker:
        watch = LoadWatch(worker)
        first = await watch.until(lambda _: True)
        assert (first.step_ms, first.prefill_tokens_per_s, first.decode_tokens_per_s) == (0, 0, 0)
        await worker.ask("abc", stop={"max_tokens": 20})
        told = await watch.until(lambda r: r.step >= 20)
        assert told.decode_rows == 1
        assert min(told.step_ms, told.prefill_tokens_per_s, told.decode_tokens_per_s) > 0
        watch.call.cancel()


async def probe(worker: LocalWorker, timeout_s: float = 10.0) -> worker_pb2.ProbeResponse:
    raw = await worker.channel.unary_unary(SERVICE + "Probe")(
        b"", metadata=TOKEN, timeout=timeout_s
    )
    return worker_pb2.ProbeResponse.FromString(raw)


async def test_probe_asks_the_running_engine_what_the_model_answered_at_the_start() -> None:
    prompt_ids = (5, 6, 7)
    right = GoldenQuestion(prompt_ids, tuple(fake_completion(prompt_ids, num_tokens=4)))
    runner = FakeRunner(capacity=64)
    async with worker_of(runner, token="secret", question=right) as worker:
        answer = await probe(worker)
        assert answer.passed
        assert answer.duration_us > 0
        assert len(runner.batches) == 4, "through the engine, token by token"
        runner.fail_next(RuntimeError("a failed step"))
        assert not (await probe(worker)).passed
        assert (await probe(worker)).passed
        await worker.idle()
    wrong = GoldenQuestion(prompt_ids, (*right.answer_ids[:3], right.answer_ids[3] ^ 1))
    async with worker_of(FakeRunner(capacity=64), token="secret", question=wrong) as worker:
        assert not (await probe(worker)).passed


async def test_probe_of_a_runner_that_nobody_asked_before_wants_any_token() -> None:
    async with worker_of(FakeRunner(), token="secret") as worker:
        assert (await probe(worker)).passed


async def test_probe_of_an_engine_that_hangs_ends_at_its_deadline() -> None:
    runner = FakeRunner()
    async with worker_of(runner, token="secret") as worker:
        with runner.hold(), pytest.raises(grpc.aio.AioRpcError) as caught:
            await probe(worker, timeout_s=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await worker.idle()


async def test_silence_is_no_longer_than_the_interval() -> None:
    async with worker_of(FakeRunner(), token="secret") as worker:
        watch = LoadWatch(worker, interval_ms=10)
        for _ in range(3):
            await watch.until(lambda _: True)
        assert len({report.SerializeToString() for report in watch.reports}) == 1
        watch.call.cancel()


@pytest.mark.parametrize("method", ["GetInfo", "Probe", "Drain"])
async def test_worker_calls_need_the_cluster_token(method: str) -> None:
    async with worker_of(FakeRunner(), token="secret") as worker:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await worker.channel.unary_unary(SERVICE + method)(b"")
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert from_rpc_error(caught.value).reason == "CLUSTER_TOKEN_INVALID"
        call = worker.channel.unary_stream(SERVICE + "WatchLoad")(b"")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert from_rpc_error(caught.value).reason == "CLUSTER_TOKEN_INVALID"
        assert not worker.stop.requested.is_set()


async def test_info_is_what_the_registry_has() -> None:
    async with worker_of(FakeRunner(capacity=99), token="secret") as worker:
        raw = await worker.channel.unary_unary(SERVICE + "GetInfo")(b"", metadata=TOKEN)
        info = worker_pb2.GetInfoResponse.FromString(raw)
        instance = (await worker.registered())["w1"]
        assert info.worker_id == instance.id == "w1"
        assert info.incarnation == instance.incarnation
        assert info.model.context_length == instance.context_length == 99
        assert info.state == worker_pb2.WORKER_STATE_SERVING
        assert instance.address == worker.running.address
        assert instance.state is InstanceState.SERVING


async def test_drain_finishes_what_runs_and_refuses_what_is_new() -> None:
    runner = FakeRunner(num_slots=2, capacity=64)
    async with worker_of(runner, token="secret") as worker:
        watch = LoadWatch(worker)
        with runner.hold():
            calls = [
                asyncio.ensure_future(
                    worker.ask("abc", stop={"max_tokens": 20}, sampling={"seed": i})
                )
                for i in range(6)
            ]
            await watch.until(lambda r: r.running + r.waiting == 6)
            raw = await worker.channel.unary_unary(SERVICE + "Drain")(
                worker_pb2.DrainRequest(grace_ms=5000).SerializeToString(), metadata=TOKEN
            )
            assert worker_pb2.DrainResponse.FromString(raw).num_running == 6
            await worker.stop.requested.wait()
            assert worker.stop.grace_s == 5
            draining = asyncio.ensure_future(worker.running.drain(5))
            await watch.until(lambda r: r.state == worker_pb2.WORKER_STATE_DRAINING)
            async for snapshot in worker.registry.snapshots():
                if snapshot.instances["w1"].state is InstanceState.DRAINING:
                    break
            late = await worker.ask("abc")
            assert late.error is not None
            assert late.error.reason == "DRAINING"
            assert late.code is grpc.StatusCode.UNAVAILABLE
        assert await draining
        for i, answer in enumerate(await asyncio.gather(*calls)):
            answer.check_whole()
            assert answer.ids() == fake_completion((97, 98, 99), num_tokens=20, seed=i)
        async with asyncio.timeout(PATIENCE_S):
            while await watch.call.read() is not grpc.aio.EOF:
                pass
    assert "w1" not in await worker.registered()


class SlowToTell(ByteTokenizer):
    """Waits before it says what a token stands for."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.go = threading.Event()

    def token_bytes(self, token_id: int) -> bytes:
        self.asked.set()
        assert self.go.wait(10)
        return super().token_bytes(token_id)


async def test_a_drain_waits_for_tokenize_to_its_last_byte() -> None:
    tokenizer = SlowToTell()
    async with worker_of(FakeRunner(), tokenizer=tokenizer) as worker:
        call = asyncio.ensure_future(
            worker.channel.unary_unary("/lepton.v1.InferenceService/Tokenize")(
                inference_pb2.TokenizeRequest(text="ab").SerializeToString()
            )
        )
        try:
            assert await asyncio.to_thread(tokenizer.asked.wait, PATIENCE_S)
            assert worker.running.in_flight.num_calls == 1
        finally:
            tokenizer.go.set()
        assert inference_pb2.TokenizeResponse.FromString(await call).tokens == [b"a", b"b"]


async def test_a_drain_of_more_than_an_hour_is_refused_and_nothing_begins() -> None:
    async with worker_of(FakeRunner(), token="secret") as worker:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await worker.channel.unary_unary(SERVICE + "Drain")(
                worker_pb2.DrainRequest(grace_ms=3_600_001).SerializeToString(), metadata=TOKEN
            )
        error = from_rpc_error(caught.value)
        assert (error.reason, error.field) == ("FIELD_OUT_OF_RANGE", "grace_ms")
        assert not worker.stop.requested.is_set()


async def test_a_drain_that_is_too_short_ends_calls_with_a_typed_error() -> None:
    runner = FakeRunner(capacity=1_000_000)
    async with worker_of(runner) as worker:
        with runner.hold():  # it would fill the event loop with tokens
            call = asyncio.ensure_future(worker.ask("abc", stop={"max_tokens": 900_000}))
            await asyncio.to_thread(runner.wait_entered)
            assert not await worker.running.drain(0.05)
    answer = await call
    assert answer.error is not None
    assert answer.error.reason == "DRAINING"


async def test_streams_too_long_for_the_grace_end_before_the_worker_leaves() -> None:
    """So that a router hears DRAINING and not a broken connection, also when a step does not end."""
    runner = FakeRunner(capacity=1_000_000)
    async with worker_of(runner, hand_over_s=10) as worker:
        with runner.hold():
            calls = [
                asyncio.ensure_future(worker.ask("abc", stop={"max_tokens": 900_000}))
                for _ in range(3)
            ]
            await asyncio.to_thread(runner.wait_entered)
            assert not await worker.running.drain(0.4)
            assert worker.running.in_flight.num_calls == 0
        answers = await asyncio.gather(*calls)
    assert [answer.error and answer.error.reason for answer in answers] == ["DRAINING"] * 3


async def test_an_engine_that_only_fails_ends_the_worker() -> None:
    runner = FakeRunner()
    async with worker_of(runner, engine_check_s=0.01) as worker:
        settings = WorkerSettings(model_dir=Path(), engine_check_s=0.01)
        waiting = asyncio.ensure_future(
            until_stopped(worker.running, settings, worker.stop, SystemClock())
        )
        runner.fail_next(RuntimeError("boom"), steps=3)
        for _ in range(3):
            answer = await worker.ask("abc", stop={"max_tokens": 2})
            assert answer.error is not None
        with pytest.raises(ExceptionGroup) as caught:
            await waiting
        (error,) = caught.value.exceptions
        assert isinstance(error, Internal)
        assert error.reason == "ENGINE_FAILED"


async def test_a_worker_that_leaves_without_a_drain_ends_its_load_streams_itself() -> None:
    """Or it would wait for them, and then cut them off."""
    async with AsyncExitStack() as channels:
        async with worker_of(FakeRunner(), token="secret") as worker:
            channel = await channels.enter_async_context(
                open_channel(worker.running.address, message_bytes_max=1 << 20)
            )
            call: Any = channel.unary_stream(SERVICE + "WatchLoad")(b"", metadata=TOKEN)
            await call.read()
        while await call.read() is not grpc.aio.EOF:
            pass
        assert await call.code() is grpc.StatusCode.OK


async def test_waiting_for_the_end_ends_when_it_is_asked_for() -> None:
    async with worker_of(FakeRunner()) as worker:
        settings = WorkerSettings(model_dir=Path())
        waiting = asyncio.ensure_future(
            until_stopped(worker.running, settings, worker.stop, SystemClock())
        )
        worker.stop.request(1.0)
        async with asyncio.timeout(PATIENCE_S):
            await waiting


async def test_one_call_is_one_trace_with_its_phases() -> None:
    async with worker_of(FakeRunner()) as worker:
        trace_id = "0af7651916cd43dd8448eb211c80319c"
        answer = await worker.ask(
            "abc",
            stop={"max_tokens": 6},
            sampling={"temperature": 0.5, "seed": 2**64 - 1},
            request_id="r-9",
            metadata=[
                ("traceparent", f"00-{trace_id}-b7ad6b7169203331-01"),
                ("lepton-router-id", "r1"),
            ],
        )
        answer.check_whole()
        spans = {span.name: span for span in await worker.ended_spans(5)}
        root = spans["lepton.v1.InferenceService/Generate"]
        phases = [spans[f"lepton.{name}"] for name in ("tokenize", "queue", "prefill", "decode")]
        assert len(spans) == 5
        assert f"{root.context.trace_id:032x}" == trace_id
        for phase in phases:
            assert phase.parent is not None
            assert phase.parent.span_id == root.context.span_id
            assert phase.start_time is not None
            assert phase.end_time is not None
            assert phase.start_time <= phase.end_time
        for before, after in itertools.pairwise(phases):
            assert before.end_time is not None
            assert after.start_time is not None
            assert before.end_time <= after.start_time + 1000  # rounding of floats
        attributes = root.attributes or {}
        assert attributes["gen_ai.operation.name"] == "text_completion"
        assert attributes["gen_ai.request.temperature"] == 0.5
        assert attributes["gen_ai.request.max_tokens"] == 6
        assert attributes["gen_ai.request.seed"] == str(2**64 - 1)
        assert attributes["gen_ai.usage.input_tokens"] == 3
        assert attributes["gen_ai.usage.output_tokens"] == 6
        assert attributes["gen_ai.response.finish_reasons"] == ("length",)
        assert attributes["lepton.request_id"] == "r-9"
        assert attributes["lepton.worker_id"] == "w1"
        assert attributes["lepton.router_id"] == "r1"
        assert attributes["gen_ai.response.time_to_first_chunk"] > 0  # type: ignore[operator]


async def test_a_cancelled_call_has_the_spans_that_began() -> None:
    runner = FakeRunner()
    async with worker_of(runner) as worker:
        with runner.hold():
            request = inference_pb2.GenerateRequest(
                text="abc", stop=types_pb2.StopConditions(max_tokens=20)
            )
            call = worker.call(request.SerializeToString())
            await asyncio.to_thread(runner.wait_entered)
            call.cancel()
            await until(
                lambda: "lepton.v1.InferenceService/Generate" in names_of_spans(worker),
                what="the span of the call",
            )
        names = names_of_spans(worker)
        assert "lepton.tokenize" in names
        assert "lepton.queue" in names
        assert "lepton.decode" not in names


def names_of_spans(worker: LocalWorker) -> list[str]:
    return [span.name for span in worker.spans.get_finished_spans()]


async def test_numbers_are_counted() -> None:
    async with worker_of(FakeRunner()) as worker:
        await worker.ask("abc", stop={"max_tokens": 6})
        await worker.ask("abc", model="nobody")
        await worker.idle()
        value = worker.metrics.get_sample_value
        assert value("lepton_requests_total", {"model": "fake", "code": "OK"}) == 1
        assert value("lepton_requests_total", {"model": "unknown", "code": "NOT_FOUND"}) == 1
        assert value("lepton_errors_total", {"reason": "MODEL_NOT_FOUND"}) == 1
        assert value("lepton_prompt_tokens_total") == 3
        assert value("lepton_generation_tokens_total") == 6
        assert value("lepton_time_to_first_token_seconds_count") == 1
        assert value("lepton_inter_token_seconds_count") == 5
        assert value("lepton_queue_seconds_count") == 1
        assert value("lepton_step_seconds_count", {}) > 0  # type: ignore[operator]
        assert value("lepton_num_requests_running") == 0
