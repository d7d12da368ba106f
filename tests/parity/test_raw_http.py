"""HTTP that no library would send: a status that says whose fault it is, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from tests.support.demo_cluster import SECRET, DemoCluster
from tests.support.http_client import HttpAnswer, ask_http, connect, read_answer
from tests.support.raw_http import RAW, RawRequest, post

pytestmark = pytest.mark.asyncio(loop_scope="module")

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")

_INSIDE = re.compile(rb"Traceback|site-packages|File \"|\.py\b")


async def _answer(cluster: DemoCluster, sent: bytes, *, closes: bool = False) -> HttpAnswer:
    """The first answer; `closes`: and nothing after it."""
    reader, writer = await connect(cluster.http)
    try:
        async with asyncio.timeout(10):
            writer.write(sent)
            answer = await read_answer(reader)
            if closes:
                assert await reader.read() == b"", "somebody read a second request"
        return answer
    finally:
        writer.transport.abort()


def _check_harmless(answer: HttpAnswer) -> None:
    assert not _INSIDE.search(answer.body) or answer.status == 200
    assert SECRET.encode() not in answer.body
    if answer.status >= 400 and answer.headers.get("content-type") == "application/json":
        told = json.loads(answer.body)["error"]
        assert told["code"]
        assert told["message"].isprintable() or "\n" not in told["message"]


@pytest.mark.parametrize("raw", RAW, ids=[raw.id for raw in RAW])
async def test_what_no_library_sends(cluster: DemoCluster, raw: RawRequest) -> None:
    answer = await _answer(cluster, raw.sent, closes=raw.closes)
    assert answer.status in raw.statuses, answer
    _check_harmless(answer)


async def test_an_offer_of_another_protocol_is_ignored(cluster: DemoCluster) -> None:
    """And the connection goes on: Java's client makes one with its first request."""
    offer = b"connection: keep-alive, upgrade\r\nupgrade: h2c\r\n"
    reader, writer = await connect(cluster.http)
    async with asyncio.timeout(10):
        for _ in range(3):
            writer.write(post(offer) + post(offer))
            for _ in range(2):
                answer = await read_answer(reader)
                assert answer.status == 200
                assert answer.json["usage"]["completion_tokens"] == 2
    writer.close()


async def test_every_method_at_every_path(cluster: DemoCluster) -> None:
    listed = await ask_http(
        cluster.http, b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )
    paths = [re.sub(r"\{\w+\}", "x", path) for path in listed.json["paths"]]
    assert len(paths) > 15
    paths += ["/", "/docs", "/openapi.json", "/v1/ws", "/metrics", "/admin", "*", "//", "/%00"]
    for path in paths:
        for method in METHODS:
            head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            for more in (
                "\r\n",
                "content-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
                "content-type: application/json\r\ncontent-length: 4\r\n\r\nnull",
            ):
                reader, writer = await connect(cluster.http)
                writer.write((head + more).encode())
                async with asyncio.timeout(10):
                    status = int((await reader.readline()).split()[1])
                writer.transport.abort()
                # Nobody serves a model called x.
                assert status < 500 or (status, path[-6:]) == (503, "/ready"), (method, path, more)
