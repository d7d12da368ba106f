"""The WebSocket door before a real router and real workers, asked by a client of another library."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from gateway.settings import GatewaySettings
from tests.support.patience import PATIENCE_S
from tests.support.resuming import NUM_TOKENS, ResumingCluster, resuming_cluster, text_of
from tests.support.small_cluster import until
from tests.support.socket_client import SCHEMA, SocketClient, socket_of

ANSWER = text_of(NUM_TOKENS)


def asked(text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"text": text, "stop": {"max_tokens": NUM_TOKENS}, **fields}


@pytest.fixture(name="cluster")
async def _cluster() -> AsyncIterator[ResumingCluster]:
    settings = GatewaySettings(
        port=0, socket_generations_max=3, socket_faults_max=2, sockets_max=2, slow_reader_s=0.3
    )
    async with resuming_cluster(("w1",), num_routers=1, gateway=settings) as cluster:
        yield cluster


@pytest.fixture(name="socket")
async def _socket(cluster: ResumingCluster) -> AsyncIterator[SocketClient]:
    async with socket_of(http(cluster)) as socket:
        yield socket


def http(cluster: ResumingCluster) -> int:
    return cluster.routers[0].ports.http


def error_of(message: dict[str, Any]) -> tuple[str, str, str | None]:
    assert message["type"] == "error"
    return (message["error"]["code"], message["error"]["reason"], message["error"]["field"])


async def test_generations_share_a_socket(cluster: ResumingCluster, socket: SocketClient) -> None:
    cluster.pace.free()
    assert socket.socket.protocol == "lepton.v1"
    for name in ("a", "b", "ü 🙂"):
        await socket.say(type="start", id=name, request=asked())
    for name in ("a", "b", "ü 🙂"):
        assert await socket.until_ended(name) == {"type": "end", "id": name}
        assert socket.text(name) == ANSWER
        assert socket.seqs(name) == list(range(len(socket.seqs(name))))
        assert socket.events[name][-1].finished.usage.completion_tokens == NUM_TOKENS


async def test_an_id_is_free_again_after_its_end(
    cluster: ResumingCluster, socket: SocketClient
) -> None:
    cluster.pace.free()
    await socket.say(type="start", id="a", request=asked())
    await socket.until_ended("a")
    socket.ended.clear()
    socket.events.clear()
    await socket.say(type="start", id="a", request=asked())
    assert (await socket.until_ended("a"))["type"] == "end"
    assert socket.text("a") == ANSWER


async def test_a_cancelled_generation_stops_computing_and_others_go_on(
    cluster: ResumingCluster, socket: SocketClient
) -> None:
    await socket.say(type="start", id="a", request=asked())
    await socket.say(type="start", id="b", request=asked())
    cluster.pace.allow(6)
    await socket.until_text("a", 1)
    await socket.say(type="cancel", id="a")
    await socket.say(type="cancel", id="a")
    await socket.say(type="cancel", id="nobody")
    assert error_of(await socket.until_ended("a")) == ("CANCELLED", "CLIENT_GONE", None)
    cluster.pace.free()
    assert (await socket.until_ended("b"))["type"] == "end"
    assert len(socket.text("a")) < NUM_TOKENS
    await cluster.until_nothing_is_left()


async def test_a_resumable_generation_is_aborted_by_cancel(
    cluster: ResumingCluster, socket: SocketClient
) -> None:
    await socket.say(type="start", id="a", request=asked(resumable_ms=20_000))
    cluster.pace.allow(2)
    await socket.until_text("a", 1)
    await socket.say(type="cancel", id="a")
    assert error_of(await socket.until_ended("a")) == ("CANCELLED", "ABORTED", None)
    cluster.pace.free()
    await until(lambda: not cluster.num_computing(), what="no compute")
    assert cluster.pace.num_tokens < NUM_TOKENS


async def test_what_nobody_can_resume_stops_with_its_socket(cluster: ResumingCluster) -> None:
    async with socket_of(http(cluster)) as socket:
        for name in ("a", "b"):
            await socket.say(type="start", id=name, request=asked())
        cluster.pace.allow(6)
        await until(lambda: cluster.num_computing() == 2, what="two run")
    await cluster.until_alone()
    cluster.pace.free()
    await cluster.until_nothing_is_left()
    assert cluster.pace.num_tokens < 2 * NUM_TOKENS


async def test_a_generation_is_resumed_on_another_socket(cluster: ResumingCluster) -> None:
    request = asked(resumable_ms=20_000)
    async with socket_of(http(cluster)) as first:
        await first.say(type="start", id="a", request=request)
        cluster.pace.allow(3)
        await first.until_text("a", 2)
    await cluster.until_alone()
    cluster.pace.free()
    async with socket_of(http(cluster)) as second:
        resume = {"resume_token": first.token("a"), "after_seq": first.seqs("a")[-1]}
        await second.say(type="resume", id="z", request=request, **resume)
        assert (await second.until_ended("z"))["type"] == "end"
    assert first.text("a") + second.text("z") == ANSWER
    assert second.seqs("z")[0] == first.seqs("a")[-1] + 1


@pytest.mark.parametrize(
    ("message", "code", "reason", "field"),
    [
        ({"request": {}}, "INVALID_ARGUMENT", "FIELD_REQUIRED", "input"),
        ({}, "INVALID_ARGUMENT", "FIELD_REQUIRED", "request"),
        ({"request": 3}, "INVALID_ARGUMENT", "FIELD_MALFORMED", None),
        ({"request": {"txt": "a"}}, "INVALID_ARGUMENT", "FIELD_MALFORMED", "txt"),
        (
            {"request": {"text": "a", "sampling": {"n": 10**9}}},
            "INVALID_ARGUMENT",
            "FIELD_OUT_OF_RANGE",
            "sampling.n",
        ),
        (
            {"request": {"text": "a", "sampling": {"n": -1}}},
            "INVALID_ARGUMENT",
            "FIELD_OUT_OF_RANGE",
            "sampling.n",
        ),
        (
            {"request": {"text": "a", "sampling": {"temperature": "NaN"}}},
            "INVALID_ARGUMENT",
            "FIELD_NOT_FINITE",
            "sampling.temperature",
        ),
        (
            {"request": {"text": "a", "continuation": {}}},
            "PERMISSION_DENIED",
            "ROUTER_ONLY_FIELD",
            "continuation",
        ),
        (
            {"request": asked(), "timeout_s": 0},
            "INVALID_ARGUMENT",
            "FIELD_OUT_OF_RANGE",
            "timeout_s",
        ),
        ({"request": asked(), "timeout": 1}, "INVALID_ARGUMENT", "FIELD_MALFORMED", "timeout"),
        ({"request": asked(model="gone")}, "NOT_FOUND", "MODEL_NOT_FOUND", "model"),
    ],
)
async def test_a_refusal_ends_its_own_id_only(
    cluster: ResumingCluster,
    socket: SocketClient,
    message: dict[str, Any],
    code: str,
    reason: str,
    field: str | None,
) -> None:
    await socket.say(type="start", id="good", request=asked())
    await socket.say(type="start", id="bad", **message)
    refusal = await socket.until_ended("bad")
    assert error_of(refusal) == (code, reason, field)
    assert refusal["error"]["request_id"]
    cluster.pace.free()
    assert (await socket.until_ended("good"))["type"] == "end"


async def test_a_timeout_ends_a_generation(cluster: ResumingCluster, socket: SocketClient) -> None:
    await socket.say(type="start", id="a", request=asked(), timeout_s=0.2)
    assert error_of(await socket.until_ended("a"))[:2] == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")


async def test_generations_and_sockets_are_counted(
    cluster: ResumingCluster, socket: SocketClient
) -> None:
    for name in ("a", "b", "c", "d"):
        await socket.say(type="start", id=name, request=asked())
    refusal = await socket.until_ended("d")
    assert error_of(refusal) == ("RESOURCE_EXHAUSTED", "CALLER_QUEUE_FULL", None)
    assert refusal["error"]["retry_after_s"] > 0
    async with socket_of(http(cluster)):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with socket_of(http(cluster)):
                pass
    assert refused.value.status == 429
    cluster.pace.free()
    for name in ("a", "b", "c"):
        assert (await socket.until_ended(name))["type"] == "end"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param("", 1007, id="nothing"),
        pytest.param("nonsense", 1007, id="not JSON"),
        pytest.param("[1]", 4400, id="a list"),
        pytest.param('{"type": "start"}', 4400, id="no id"),
        pytest.param('{"type": "start", "id": 7}', 4400, id="a number as id"),
        pytest.param('{"type": "start", "id": ""}', 4400, id="an empty id"),
        pytest.param('{"type": "stop", "id": "a"}', 4400, id="another type"),
        pytest.param('{"type": "ping", "id": "a"}', 4400, id="a ping with an id"),
        pytest.param('{"type": "ping", "type": "ping"}', 1007, id="a name twice"),
        pytest.param(
            '{"type": "start", "id": "a", "request": {"text": "\\ud800"}}', 1007, id="half a pair"
        ),
        pytest.param('{"type": "start", "id": "a", "request": ' + "[" * 250_000, 1007, id="deep"),
        pytest.param('{"type": "start", "id": "a", "timeout_s": NaN}', 4400, id="NaN"),
    ],
)
async def test_who_cannot_be_understood_is_told_and_then_closed(
    cluster: ResumingCluster, socket: SocketClient, text: str, code: int
) -> None:
    """What runs on the socket goes on until it has been told too often."""
    await socket.say(type="start", id="a", request=asked())
    for _ in range(2):
        await socket.socket.send_str(text)
    while len(socket.faults) < 2:
        assert await socket.read()
    assert {fault["code"] for fault in socket.faults} == {"INVALID_ARGUMENT"}
    cluster.pace.free()
    assert (await socket.until_ended("a"))["type"] == "end"
    await socket.socket.send_str(text)
    async with asyncio.timeout(PATIENCE_S):
        closing = await socket.socket.receive()
    assert (closing.type, closing.data) == (aiohttp.WSMsgType.CLOSE, code)
    assert closing.extra
    assert len(closing.extra.encode()) <= 123


async def test_an_id_in_use_is_a_fault_and_bytes_close_the_socket(
    cluster: ResumingCluster, socket: SocketClient
) -> None:
    await socket.say(type="start", id="a", request=asked())
    await socket.say(type="start", id="a", request=asked())
    cluster.pace.free()
    assert (await socket.until_ended("a"))["type"] == "end"
    (fault,) = socket.faults
    assert fault["field"] == "id"
    await socket.socket.send_bytes(b'{"type": "ping"}')
    assert await socket.until_closed() == 1003
    await cluster.until_nothing_is_left()


async def test_ping(socket: SocketClient) -> None:
    await socket.say(type="ping")
    assert await socket.read()
    assert socket.num_pongs == 1


async def test_a_page_from_elsewhere_and_another_subprotocol_are_refused(
    cluster: ResumingCluster,
) -> None:
    for options, status in (
        ({"origin": "https://evil.example"}, 403),
        ({"headers": {"host": "evil.example"}}, 403),
        ({"protocols": ["lepton.v9"]}, 400),
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with socket_of(http(cluster), **options):
                pass
        assert refused.value.status == status
    async with socket_of(http(cluster), protocols=[]) as socket:
        await socket.say(type="ping")
        assert await socket.read()


async def test_the_schema_is_served(cluster: ResumingCluster) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{http(cluster)}/v1/ws/schema.json") as response,
    ):
        assert response.content_type == "application/schema+json"
        assert json.loads(await response.text()) == SCHEMA


async def test_a_restarting_router_says_so(cluster: ResumingCluster) -> None:
    async with socket_of(http(cluster)) as socket:
        door = cluster.routers[0].http
        assert door is not None
        stopping = asyncio.ensure_future(door.stop(2))
        assert await socket.until_closed() == 1012
        await stopping
