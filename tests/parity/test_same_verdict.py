"""Whatever a GenerateRequest holds, gRPC and WebSocket judge it alike, and REST does for what it can say."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.rpc.status import TABLE
from gateway.json_form import as_json
from lepton.v1 import inference_pb2
from tests.support.demo_cluster import demo_cluster
from tests.support.doors import Doors, Refusal, doors_of
from tests.support.random_messages import messages

_SOMETIMES_WRONG = st.one_of(
    st.floats(0.125, 1.0, width=32), st.floats(width=32), st.sampled_from([0.0, -0.0, 2.0, 100.0])
)
_COUNTS = st.one_of(st.integers(1, 4), st.sampled_from([0, 9, 1024, 2**31, 2**32 - 1]))
_STRINGS = st.lists(st.sampled_from(["a", "", "é" * 200, "x" * 300, "\0"]), max_size=18)

BODY = st.fixed_dictionaries(
    {"max_tokens": _COUNTS},
    optional={
        **dict.fromkeys(("temperature", "top_p", "min_p", "repetition_penalty"), _SOMETIMES_WRONG),
        "frequency_penalty": _SOMETIMES_WRONG,
        "presence_penalty": _SOMETIMES_WRONG,
        "top_k": st.integers(0, 2**32 - 1),
        "n": _COUNTS,
        "seed": st.integers(0, 2**64 - 1),
        "min_tokens": _COUNTS,
        "stop": _STRINGS,
        "stop_token_ids": st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 3), max_size=3),
        "logit_bias": st.dictionaries(
            st.sampled_from(["0", "5", "767", "768", "4294967295"]), _SOMETIMES_WRONG, max_size=3
        ),
        "model": st.sampled_from(["", "tiny", "other", "x" * 200, "../tiny"]),
        "cache_salt": st.sampled_from(["", "salt", "x" * 65]),
    },
)
"""Of a completion; what is no number cannot be said in JSON, and comes from the other test."""

_IN_STOP = {"max_tokens": "max_tokens", "min_tokens": "min_tokens", "stop_token_ids": "token_ids"}
_SAMPLING = frozenset(
    {
        *("temperature", "top_p", "min_p", "repetition_penalty", "frequency_penalty"),
        *("presence_penalty", "top_k", "n", "seed", "logit_bias"),
    }
)


@pytest.fixture(name="doors")
async def _doors() -> AsyncIterator[Doors]:
    async with demo_cluster() as cluster, doors_of(cluster) as doors:
        yield doors


def _many(examples: int) -> Any:
    return settings(
        max_examples=examples,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@_many(150)
@given(request=messages(inference_pb2.GenerateRequest), length=st.none() | _COUNTS)
async def test_any_message(doors: Doors, request: Any, length: int | None) -> None:
    if length is not None:
        request.stop.max_tokens = length
    if request.stop.max_tokens > 8 or not request.stop.HasField("max_tokens"):
        request.sampling.n = 0 if request.sampling.n else 1  # nobody waits for a thousand tokens
        request.stop.max_tokens = max(request.stop.max_tokens, 2**20)
    said = json.loads(msgspec.json.encode(as_json(request)))
    assert await doors.websocket(said) == await doors.grpc(request)


@_many(100)
@given(body=BODY)
async def test_any_completion(doors: Doors, body: dict[str, Any]) -> None:
    body = {name: value for name, value in body.items() if not _has_no_json(value)}
    message = _as_message(body)
    over_grpc, over_rest = await doors.grpc(message), await doors.text(body)
    if isinstance(over_grpc, Refusal) and isinstance(over_rest, Refusal):
        assert over_rest.reason == over_grpc.reason
        assert int(over_rest.code) in _http_of(over_grpc.code)
        assert (over_rest.field or "").split(".")[-1] == _in_rest(over_grpc.field)
    else:
        assert over_rest == over_grpc


def _has_no_json(value: Any) -> bool:
    values = value.values() if isinstance(value, dict) else [value]
    return any(isinstance(one, float) and not math.isfinite(one) for one in values)


def _as_message(body: dict[str, Any]) -> inference_pb2.GenerateRequest:
    message = inference_pb2.GenerateRequest(text="hello")
    for name, value in body.items():
        if name == "logit_bias":
            for key, bias in value.items():
                message.sampling.logit_bias[int(key)] = bias
        elif name in _SAMPLING:
            setattr(message.sampling, name, value)
        elif name == "stop":
            message.stop.strings.extend(value)
        elif name == "stop_token_ids":
            message.stop.token_ids.extend(value)
        elif name in _IN_STOP:
            setattr(message.stop, name, value)
        elif name == "cache_salt":
            message.cache.salt = value
        else:
            message.model = value
    return message


def _http_of(code: str) -> set[int]:
    return {codes.http for codes in TABLE.values() if codes.grpc.name == code}


def _in_rest(field: str | None) -> str:
    name = (field or "").partition("[")[0]
    renamed = {
        "stop.strings": "stop",
        "stop.token_ids": "stop_token_ids",
        "cache.salt": "cache_salt",
    }
    return renamed.get(name, name.split(".")[-1])
