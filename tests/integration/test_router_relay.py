"""A router between a real client and a real (fake) worker: what goes through, and how calls end."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import grpc
import pytest

from common.cluster import ClusterSettings
from common.errors import InvalidRequest, Reason, Unavailable
from common.rpc.metadata import CLUSTER_TOKEN_KEY, REQUEST_ID_KEY, ROUTER_ID_KEY, TRACE_ID_KEY
from lepton.v1 import inference_pb2
from tests.support.fake_worker import FakeWorker, Script, message_of
from tests.support.patience import PATIENCE_S
from tests.support.small_cluster import GENERATE, ask, small_cluster, until


async def test_client_sees_exactly_the_bytes_of_the_worker() -> None:
    """Inside an event nobody looks, before messages are many; a later release may say more; some may come together."""
    messages = [_strange(seq, os.urandom(size)) for seq, size in enumerate((1, 5, 100, 70_000))]
    messages += [b"", _strange(4, b"\xfa\x3e\x03new", field=b"\x52")]
    worker = FakeWorker(script=Script(messages=messages))
    async with small_cluster(worker, transcript_bytes_max=100_000) as cluster:
        answer = await cluster.ask()
        assert answer.error is None
        assert b"".join(answer.messages) == b"".join(messages)
        assert answer.finished == cluster.workers["w1"].finished(len(messages))


def _strange(seq: int, inside: bytes, field: bytes = b"\x1a") -> bytes:
    """A message with an event that has `inside` for its delta, or another field."""
    length = bytes((len(inside) & 0x7F | 0x80, len(inside) >> 7 & 0x7F | 0x80, len(inside) >> 14))
    event = bytes((0x08, seq)) + field + length + inside
    length = bytes((len(event) & 0x7F | 0x80, len(event) >> 7 & 0x7F | 0x80, len(event) >> 14))
    return b"\x0a" + length + event


async def test_worker_sees_exactly_the_request_and_who_sent_it() -> None:
    cluster_settings = ClusterSettings(token="sesame")
    async with small_cluster(FakeWorker(), cluster=cluster_settings, id="r1") as cluster:
        request = inference_pb2.GenerateRequest(model="tiny", text="grüß\n", request_id="abc")
        payload = request.SerializeToString() + b"\xfa\x3e\x03new"  # a field of a later release
        answer = await ask(cluster.channel, payload, timeout_s=7.0)
        assert answer.error is None
        (seen,) = cluster.workers["w1"].calls
        assert seen.payload == payload
        assert seen.metadata[REQUEST_ID_KEY] == "abc"
        assert seen.metadata[ROUTER_ID_KEY] == "r1"
        assert seen.metadata[CLUSTER_TOKEN_KEY] == "sesame"
        assert seen.deadline_s is not None
        assert 6.0 < seen.deadline_s < 7.1  # gRPC rounds up on the wire


async def test_answer_carries_request_id_and_trace_id_before_the_first_message() -> None:
    gate = asyncio.Event()
    async with small_cluster(FakeWorker(script=Script(gate=gate))) as cluster:
        request = inference_pb2.GenerateRequest(model="tiny", text="x")
        call: Any = cluster.channel.unary_stream(GENERATE)(
            request.SerializeToString(), timeout=PATIENCE_S
        )
        initial = dict(await call.initial_metadata())
        assert len(initial[REQUEST_ID_KEY]) == 32
        assert len(initial[TRACE_ID_KEY]) == 32
        gate.set()
        answer = b"".join([message async for message in call])  # it may have been merged
        assert answer == b"".join(message_of("w1", seq) for seq in range(3))
        (seen,) = cluster.workers["w1"].calls
        assert seen.metadata[REQUEST_ID_KEY] == initial[REQUEST_ID_KEY]


async def test_messages_are_passed_on_as_they_come() -> None:
    """The first message reaches the client while the worker has not gone on."""
    async with small_cluster(FakeWorker(script=Script(messages=1, hang=True))) as cluster:
        call: Any = cluster.channel.unary_stream(GENERATE)(
            inference_pb2.GenerateRequest(model="tiny", text="x").SerializeToString(),
            timeout=PATIENCE_S,
        )
        assert await call.read() == message_of("w1", 0)
        call.cancel()


async def test_deadline_reaches_the_worker_and_ends_the_call() -> None:
    async with small_cluster(FakeWorker(script=Script(messages=1, hang=True))) as cluster:
        answer = await cluster.ask(timeout_s=0.3)
        assert answer.code is grpc.StatusCode.DEADLINE_EXCEEDED
        (seen,) = cluster.workers["w1"].calls
        assert seen.deadline_s is not None
        assert seen.deadline_s < 0.35  # gRPC rounds up on the wire
        async with asyncio.timeout(PATIENCE_S):
            await seen.ended.wait()
        await until(lambda: cluster.router.dispatcher.in_flight == 0)


async def test_call_without_deadline_gets_the_longest_allowed() -> None:
    async with small_cluster(FakeWorker()) as cluster:
        answer = await cluster.ask(timeout_s=None)
        assert answer.error is None
        (seen,) = cluster.workers["w1"].calls
        assert seen.deadline_s is not None
        assert 595 < seen.deadline_s < 605  # gRPC rounds up on the wire


async def test_client_that_goes_away_stops_the_worker() -> None:
    async with small_cluster(FakeWorker(script=Script(messages=1, hang=True))) as cluster:
        call: Any = cluster.channel.unary_stream(GENERATE)(
            inference_pb2.GenerateRequest(model="tiny", text="x").SerializeToString(),
            timeout=PATIENCE_S,
        )
        await call.read()
        (seen,) = cluster.workers["w1"].calls
        call.cancel()
        async with asyncio.timeout(PATIENCE_S):
            await seen.ended.wait()
        assert seen.is_cancelled
        await until(lambda: cluster.router.dispatcher.in_flight == 0)
        await until(lambda: cluster.endpoints()["w1"].in_flight == 0)
        cluster.router.pool.check_integrity()


async def test_error_of_the_worker_reaches_the_client_with_reason_field_and_hint() -> None:
    error = InvalidRequest("too long", reason=Reason.PROMPT_TOO_LONG, field="text")
    async with small_cluster(FakeWorker(script=Script(messages=0, error=error))) as cluster:
        answer = await cluster.ask()
        assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
        assert answer.error is not None
        assert answer.error.reason is Reason.PROMPT_TOO_LONG
        assert answer.error.field == "text"
        assert len(cluster.workers["w1"].calls) == 1


async def test_stream_that_ends_ok_without_its_end_is_a_lost_worker() -> None:
    worker = FakeWorker(script=Script(messages=2, finished=False))
    async with small_cluster(worker, migrations_max=0) as cluster:
        answer = await cluster.ask()
        assert len(answer.messages) == 2
        assert answer.code is grpc.StatusCode.UNAVAILABLE
        assert answer.error is not None
        assert answer.error.reason is Reason.WORKER_LOST


async def test_tokenize_and_count_are_relayed_and_models_listed() -> None:
    async with small_cluster(FakeWorker("w1"), FakeWorker("w2")) as cluster:
        from lepton.v1.inference_pb2_grpc import InferenceServiceStub

        stub: Any = InferenceServiceStub(cluster.channel)
        tokens = await stub.Tokenize(inference_pb2.TokenizeRequest(model="tiny", text="a"))
        assert list(tokens.token_ids) == [1, 2, 3]
        text = await stub.Detokenize(inference_pb2.DetokenizeRequest(token_ids=[1, 2]))
        assert text.text == "abc"
        count = await stub.CountTokens(inference_pb2.CountTokensRequest(text="a"))
        assert count.num_tokens == 3
        listed = await stub.ListModels(inference_pb2.ListModelsRequest())
        (info,) = listed.models
        assert (info.model, info.num_workers, info.context_length) == ("tiny", 2, 256)
        assert list(info.tasks) == ["generate"]


def large_message(seq: int, size: int) -> bytes:
    event = inference_pb2.Event(seq=seq, delta=inference_pb2.Delta(text=chr(65 + seq % 26) * size))
    return inference_pb2.GenerateResponse(events=[event]).SerializeToString()


@pytest.mark.parametrize("error", [Unavailable("busy"), None])
async def test_slow_reader_loses_nothing(error: Unavailable | None) -> None:
    """Backpressure goes through; the order holds."""
    messages = [large_message(seq, 20_000) for seq in range(100)]
    async with small_cluster(FakeWorker(script=Script(messages=messages, error=error))) as cluster:
        call: Any = cluster.channel.unary_stream(GENERATE)(
            inference_pb2.GenerateRequest(model="tiny", text="x").SerializeToString(),
            timeout=PATIENCE_S,
        )
        got = [await call.read()]
        await until(lambda: cluster.router.dispatcher.in_flight == 1)
        while (message := await call.read()) is not grpc.aio.EOF:
            got.append(message)
            if len(got) == len(messages):
                break
        assert got == messages
        call.cancel()
