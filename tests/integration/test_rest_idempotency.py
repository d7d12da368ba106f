"""The header `idempotency-key`: the same key as everywhere, and errors that name it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.settings import GatewaySettings
from tests.support.http_client import HttpAnswer, ask_http, post_json
from tests.support.resuming import NUM_TOKENS, ResumingCluster, resuming_cluster, text_of

PATHS = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
    "/v1/completions": {"prompt": "hello"},
}


@pytest_asyncio.fixture(name="cluster")
async def _cluster() -> AsyncIterator[ResumingCluster]:
    async with resuming_cluster(num_routers=1, gateway=GatewaySettings(port=0)) as cluster:
        yield cluster


async def ask(cluster: ResumingCluster, path: str, key: str = "", **fields: Any) -> HttpAnswer:
    body = {"max_tokens": NUM_TOKENS, **PATHS[path], **fields}
    headers = {"idempotency-key": key}
    return await post_json(cluster.http(), path, json.dumps(body).encode(), headers=headers)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_second_request_joins_the_first(
    cluster: ResumingCluster, path: str, *, stream: bool
) -> None:
    """Whether it says so in a header or in its body."""
    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(ask(cluster, path, "k", stream=stream)),
            group.create_task(ask(cluster, path, "k", stream=stream)),
            group.create_task(ask(cluster, path, stream=stream, lepton={"idempotency_key": "k"})),
        ]
        cluster.pace.free()
    for answer in (task.result() for task in asked):
        assert answer.status == 200
        if not stream:
            choice = answer.json["choices"][0]
            said = choice["text"] if "text" in choice else choice["message"]["content"]
            assert said == text_of(NUM_TOKENS)
        else:
            assert b"data: [DONE]" in answer.body
    assert cluster.pace.num_tokens == NUM_TOKENS


async def test_without_a_key_each_is_computed(cluster: ResumingCluster) -> None:
    """The negative control."""
    cluster.pace.free()
    for key in ("", "a", "b"):
        assert (await ask(cluster, "/v1/completions", key)).status == 200
    assert cluster.pace.num_tokens == 3 * NUM_TOKENS


@pytest.mark.parametrize("path", PATHS)
async def test_a_key_of_another_request_is_refused(cluster: ResumingCluster, path: str) -> None:
    cluster.pace.free()
    assert (await ask(cluster, path, "k")).status == 200
    for stream in (False, True):
        answer = await ask(cluster, path, "k", stream=stream, temperature=0.5)
        assert (answer.status, answer.code) == (400, "idempotency_key_reused")
        assert answer.json["error"]["param"] == "idempotency-key"


@pytest.mark.parametrize(
    ("key", "fields", "code"),
    [
        ("x" * 129, {}, "field_too_large"),
        ("k", {"lepton": {"idempotency_key": "other"}}, "fields_contradict"),
        ("k\r\nidempotency-key: other", {}, "fields_contradict"),
        ("k", {"prompt": ["a", "b"]}, "fields_contradict"),
    ],
    ids=["too long", "another one in the body", "two headers", "two prompts"],
)
async def test_a_key_that_cannot_be_one_is_named(
    cluster: ResumingCluster, key: str, fields: dict[str, Any], code: str
) -> None:
    answer = await ask(cluster, "/v1/completions", key, **fields)
    assert (answer.status, answer.code) == (400, code)
    assert answer.json["error"]["param"] == "idempotency-key"


async def test_the_body_may_repeat_what_the_header_says(cluster: ResumingCluster) -> None:
    cluster.pace.free()
    same = {"idempotency_key": "k"}
    assert (await ask(cluster, "/v1/completions", "k", lepton=same)).status == 200


async def test_it_is_in_the_description_of_the_door(cluster: ResumingCluster) -> None:
    head = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    paths = (await ask_http(cluster.http(), head)).json["paths"]
    for path in PATHS:
        (header,) = paths[path]["post"]["parameters"]
        assert (header["name"], header["in"]) == ("idempotency-key", "header")
