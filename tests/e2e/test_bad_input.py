"""Bad input through the router: typed, early, and the streams beside it do not notice."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import grpc
import pytest

from common.errors import Reason
from common.rpc.status import from_rpc_error
from lepton.v1 import inference_pb2
from tests.support.grammars import bomb
from tests.support.patience import PATIENCE_S
from tests.support.processes import ask, user

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]


def _with(change: Any) -> inference_pb2.GenerateRequest:
    request = user("What is 12 + 34?", max_tokens=8)
    change(request)
    return request


CASES: dict[str, tuple[inference_pb2.GenerateRequest, Reason, str | None]] = {
    "unknown model": (
        _with(lambda r: setattr(r, "model", "no-such-model")),
        Reason.MODEL_NOT_FOUND,
        "model",
    ),
    "prompt longer than the context": (
        inference_pb2.GenerateRequest(text="one two three " * 5000),
        Reason.PROMPT_TOO_LONG,
        "input",
    ),
    "max_tokens 0": (
        _with(lambda r: setattr(r.stop, "max_tokens", 0)),
        Reason.FIELD_OUT_OF_RANGE,
        "stop.max_tokens",
    ),
    "max_tokens beyond the context": (
        _with(lambda r: setattr(r.stop, "max_tokens", 1_000_000)),
        Reason.FIELD_OUT_OF_RANGE,
        "stop.max_tokens",
    ),
    "NaN temperature": (
        _with(lambda r: setattr(r.sampling, "temperature", math.nan)),
        Reason.FIELD_NOT_FINITE,
        "sampling.temperature",
    ),
    "infinite top_p": (
        _with(lambda r: setattr(r.sampling, "top_p", math.inf)),
        Reason.FIELD_NOT_FINITE,
        "sampling.top_p",
    ),
    "empty prompt": (inference_pb2.GenerateRequest(text=""), Reason.PROMPT_EMPTY, "text"),
    "3 MB prompt": (
        inference_pb2.GenerateRequest(text="x" * 3_000_000),
        Reason.FIELD_TOO_LARGE,
        "text",
    ),
    "10 MB prompt": (
        inference_pb2.GenerateRequest(text="x" * 10_000_000),
        Reason.FIELD_TOO_LARGE,
        "text",
    ),
    "100,000 stop strings": (
        _with(lambda r: r.stop.strings.extend(["x"] * 100_000)),
        Reason.FIELD_TOO_LARGE,
        "stop.strings",
    ),
    "token id out of range": (
        inference_pb2.GenerateRequest(token_ids={"ids": [1, 2, 2**31]}),
        Reason.TOKEN_ID_OUT_OF_RANGE,
        "token_ids.ids[2]",
    ),
    "schema with a keyword that cannot be enforced": (
        _with(lambda r: setattr(r.constraint, "json_schema", '{"not": {}}')),
        Reason.GRAMMAR_UNSUPPORTED,
        "constraint.json_schema",
    ),
    "expression that does not end": (
        _with(lambda r: setattr(r.constraint, "regex", "(")),
        Reason.GRAMMAR_INVALID,
        "constraint.regex",
    ),
    "grammar bomb": (
        _with(lambda r: setattr(r.constraint, "grammar", bomb().texts[0])),
        Reason.GRAMMAR_TOO_LARGE,
        "constraint.grammar",
    ),
    "grammar without an end": (
        _with(lambda r: (setattr(r.constraint, "regex", "a"), setattr(r.stop, "ignore_eos", True))),
        Reason.FIELDS_CONTRADICT,
        "stop.ignore_eos",
    ),
    "n = 10^9": (
        _with(lambda r: setattr(r.sampling, "n", 10**9)),
        Reason.FIELD_OUT_OF_RANGE,
        "sampling.n",
    ),
}

RAW: dict[str, bytes] = {
    "invalid UTF-8": bytes([0x2A, 2, 0xC3, 0x28]),
    "truncated": _with(lambda _: None).SerializeToString()[:-3],
    "random": bytes(range(255, 100, -1)),
}


async def test_bad_input_is_typed_and_neighbours_are_bit_identical(make_cluster: Any) -> None:
    cluster = await make_cluster(workers=1)
    channel = cluster.channel()
    watched = user("What is Lepton?", max_tokens=200, ignore_eos=True)
    watched.sampling.temperature = 0.9
    watched.sampling.seed = 11
    alone = await ask(channel, watched)
    assert alone.whole

    beside = asyncio.ensure_future(ask(channel, watched))
    wrong: dict[str, object] = {}
    for name, (request, reason, field) in CASES.items():
        answer = await ask(channel, request)
        assert answer.error is not None, name
        error = from_rpc_error(answer.error)
        if (error.reason, error.field) != (reason, field) or "Traceback" in error.message:
            wrong[name] = error
    for name, payload in RAW.items():
        generate = channel.unary_stream("/lepton.v1.InferenceService/Generate")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in generate(payload, timeout=PATIENCE_S):
                pass
        if from_rpc_error(caught.value).reason is not Reason.MALFORMED_MESSAGE:
            wrong[name] = caught.value
    assert wrong == {}
    same = await beside
    assert same.whole
    assert same.token_ids == alone.token_ids
    assert same.text == alone.text


async def test_a_passed_deadline_is_typed_and_stops(make_cluster: Any) -> None:
    cluster = await make_cluster(workers=1)
    request = user("What is Lepton?", max_tokens=900, ignore_eos=True)
    request.sampling.n = 8
    answer = await ask(cluster.channel(), request, deadline_s=0.1)
    assert answer.error is not None
    assert answer.error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
