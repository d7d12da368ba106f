"""Every bad input gets a typed, early answer from the router: code, reason, field. No worker is asked."""

from __future__ import annotations

import math
from typing import Any

import grpc
import pytest

from common.errors import Reason
from lepton.v1 import inference_pb2, types_pb2
from tests.support.fake_worker import FakeWorker
from tests.support.small_cluster import ask, small_cluster

Sampling = types_pb2.SamplingParams
Stop = types_pb2.StopConditions
CODE = grpc.StatusCode


def request(**fields: Any) -> inference_pb2.GenerateRequest:
    return inference_pb2.GenerateRequest(**{"model": "tiny", "text": "hello"} | fields)


BAD: dict[
    str, tuple[inference_pb2.GenerateRequest | bytes, grpc.StatusCode, Reason, str | None]
] = {
    "random bytes": (b"\xff\xff\xff", CODE.INVALID_ARGUMENT, Reason.MALFORMED_MESSAGE, None),
    "truncated": (
        request().SerializeToString()[:-1],
        CODE.INVALID_ARGUMENT,
        Reason.MALFORMED_MESSAGE,
        None,
    ),
    "invalid UTF-8": (
        b"\x12\x04tiny\x2a\x02\xc3\x28",
        CODE.INVALID_ARGUMENT,
        Reason.MALFORMED_MESSAGE,
        None,
    ),
    "unknown model": (request(model="x"), CODE.NOT_FOUND, Reason.MODEL_NOT_FOUND, "model"),
    "no model of several": (
        request(model=""),
        CODE.INVALID_ARGUMENT,
        Reason.MODEL_AMBIGUOUS,
        "model",
    ),
    "unknown revision": (
        request(revision="ffffffff"),
        CODE.NOT_FOUND,
        Reason.REVISION_NOT_FOUND,
        "revision",
    ),
    "malformed revision": (
        request(revision="latest"),
        CODE.INVALID_ARGUMENT,
        Reason.FIELD_MALFORMED,
        "revision",
    ),
    "no input": (
        inference_pb2.GenerateRequest(model="tiny"),
        CODE.INVALID_ARGUMENT,
        Reason.FIELD_REQUIRED,
        "input",
    ),
    "empty prompt": (request(text=""), CODE.INVALID_ARGUMENT, Reason.PROMPT_EMPTY, "text"),
    "10 MB prompt": (
        request(text="x" * 10_000_000),
        CODE.INVALID_ARGUMENT,
        Reason.FIELD_TOO_LARGE,
        "text",
    ),
    "too many token ids": (
        request(token_ids=types_pb2.TokenIds(ids=[1] * 5_000_000)),
        CODE.INVALID_ARGUMENT,
        Reason.FIELD_TOO_LARGE,
        None,
    ),
    "NaN": (
        request(sampling=Sampling(temperature=math.nan)),
        CODE.INVALID_ARGUMENT,
        Reason.FIELD_NOT_FINITE,
        "sampling.temperature",
    ),
    "infinity": (
        request(sampling=Sampling(top_p=math.inf)),
        CODE.INVALID_ARGUMENT,
        Reason.FIELD_NOT_FINITE,
        "sampling.top_p",
    ),
    "n = 10⁹": (
        request(sampling=Sampling(n=10**9)),
        CODE.INVALID_ARGUMENT,
        Reason.FIELD_OUT_OF_RANGE,
        "sampling.n",
    ),
    "max_tokens 0": (
        request(stop=Stop(max_tokens=0)),
        CODE.INVALID_ARGUMENT,
        Reason.FIELD_OUT_OF_RANGE,
        "stop.max_tokens",
    ),
    "100,000 stop strings": (
        request(stop=Stop(strings=["x"] * 100_000)),
        CODE.INVALID_ARGUMENT,
        Reason.FIELD_TOO_LARGE,
        "stop.strings",
    ),
    "continuation": (
        request(continuation=inference_pb2.Continuation(attempt=1)),
        CODE.PERMISSION_DENIED,
        Reason.ROUTER_ONLY_FIELD,
        "continuation",
    ),
    "adapter": (request(adapter="a"), CODE.UNIMPLEMENTED, Reason.ADAPTER_UNSUPPORTED, "adapter"),
    "request id": (
        request(request_id="a b"),
        CODE.INVALID_ARGUMENT,
        Reason.FIELD_MALFORMED,
        "request_id",
    ),
}


async def test_every_bad_input_is_refused_with_reason_and_field_and_good_ones_go_on() -> None:
    workers = FakeWorker("w1"), FakeWorker("w2", model="other")
    async with small_cluster(*workers) as cluster:
        for name, (bad, code, reason, field) in BAD.items():
            answer = await ask(cluster.channel, bad)
            assert answer.error is not None, name
            told = (answer.code, answer.error.reason, answer.error.field)
            assert told == (code, reason, field), name
            assert answer.messages == [], name
        assert workers[0].calls == workers[1].calls == []
        assert (await cluster.ask()).error is None
        cluster.router.pool.check_integrity()


@pytest.mark.parametrize("method", ["Tokenize", "CountTokens"])
async def test_tokenizing_is_checked_as_well(method: str) -> None:
    async with small_cluster(FakeWorker("w1")) as cluster:
        call = cluster.channel.unary_unary(f"/lepton.v1.InferenceService/{method}")
        for payload in (b"\xff\xff", b"\x0a\x04tiny"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(payload)
            assert caught.value.code() is CODE.INVALID_ARGUMENT
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(inference_pb2.TokenizeRequest(model="x", text="a").SerializeToString())
        assert caught.value.code() is CODE.NOT_FOUND


async def test_unknown_method_is_unimplemented() -> None:
    async with small_cluster(FakeWorker("w1")) as cluster:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await cluster.channel.unary_unary("/lepton.v1.InferenceService/Divine")(b"")
        assert caught.value.code() is CODE.UNIMPLEMENTED
