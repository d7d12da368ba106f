"""Slow writers and slow readers: every wait for a peer has an end, and whoever is cut held up nobody."""

from __future__ import annotations

import asyncio
import re
import socket as sockets
from collections.abc import AsyncIterator

import pytest

from gateway.settings import GatewaySettings
from tests.support.demo_cluster import DemoCluster, demo_cluster
from tests.support.http_client import connect, read_answer
from tests.support.processes import until
from tests.support.unharmed import unharmed

SETTINGS = GatewaySettings(
    port=0, header_s_max=0.4, body_s_max=0.4, idle_s_max=1, peer_silence_s_max=2
)
HEAD = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n"
POST = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest.fixture(name="cluster")
async def _cluster() -> AsyncIterator[DemoCluster]:
    async with demo_cluster(gateway=SETTINGS) as cluster, unharmed(cluster, has_neighbour=False):
        yield cluster


async def _drip(writer: asyncio.StreamWriter, drop: bytes) -> None:
    """A little now and then, until the other side has enough of it."""
    try:
        while True:
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(0.05)  # noqa: TID251 - that is what it is about
    except ConnectionError:
        pass


async def _outlast(cluster: DemoCluster, first: bytes, drop: bytes) -> bytes:
    """What came until the connection was closed, although something dripped all the time."""
    reader, writer = await connect(cluster.http)
    writer.write(first)
    async with asyncio.TaskGroup() as group, asyncio.timeout(10):
        dripping = group.create_task(_drip(writer, drop))
        came = b""
        try:
            while data := await reader.read(65_536):
                came += data
        except ConnectionError:
            pass
        dripping.cancel()
    writer.close()
    return came


@pytest.mark.parametrize(
    ("first", "drop", "statuses"),
    [
        (b"", b"", [b"408"]),
        (HEAD, b"x: y\r\n", [b"408"]),
        (b"", b"\r\n", [b"408"]),
        (HEAD + b"x: ", b"y", [b"408"]),
        (POST + b"content-length: 1000\r\n\r\n", b" ", [b"408"]),
        (POST + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n", [b"408"]),
        (POST + b"transfer-encoding: chunked\r\n\r\n1;", b"x", [b"408"]),
        (HEAD + b"content-length: 1000\r\n\r\n", b" ", [b"200"]),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n1;", b"x", [b"200"]),
        (POST.replace(b"/v1/completions", b"/nowhere") + b"content-length: 1000\r\n\r\n", b" ", [b"404"]),
        (HEAD + b"\r\n" + HEAD, b"", [b"200", b"408"]),
        (HEAD + b"\r\n" + HEAD, b"x: y\r\n", [b"200", b"408"]),
    ],
    ids=[
        "nothing", "headers", "empty lines", "one header", "a body", "chunks", "beside a chunk",
        "a body that nobody reads", "beside a chunk that nobody reads", "a body for nobody",
        "half a second request", "a slow second request",
    ],
)  # fmt: skip
async def test_slow_writers_are_cut(
    cluster: DemoCluster, first: bytes, drop: bytes, statuses: list[bytes]
) -> None:
    came = await _outlast(cluster, first, drop)
    assert re.findall(rb"HTTP/1.1 (\d+) ", came) == statuses


async def test_a_connection_without_a_request_ends_whatever_it_sends(cluster: DemoCluster) -> None:
    """An empty line is no request, and takes no end away from the wait for one."""
    reader, writer = await connect(cluster.http)
    writer.write(HEAD + b"\r\n")
    assert (await read_answer(reader)).status == 200
    writer.write(b"\r\n")
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


async def test_who_does_not_read_an_answer_is_cut(cluster: DemoCluster) -> None:
    """Answers of a few KB each, asked for and never taken."""
    http = cluster.router.http
    assert http is not None
    connections = http._server.server_state.connections
    await until(lambda: not connections, what="nobody else is there")
    plain = sockets.socket()
    plain.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    plain.setblocking(False)
    port = cluster.router.ports.http
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", port))
    _, writer = await asyncio.open_connection(sock=plain)
    writer.transport.pause_reading()
    asked = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n"
    writer.write(asked * 500)
    await until(lambda: bool(connections), what="it is there")
    (connection,) = connections
    await until(lambda: connection.transport.get_write_buffer_size() > 0, what="it is full")
    assert connection.transport.get_write_buffer_size() < 1 << 20
    await until(lambda: not connections, what="it is cut")
    writer.transport.abort()


async def test_who_reads_slowly_but_reads_is_served(cluster: DemoCluster) -> None:
    reader, writer = await connect(cluster.http)
    writer.write(b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    body = b""
    async with asyncio.timeout(30):
        while part := await reader.read(4096):
            body += part
            await asyncio.sleep(0.02)  # noqa: TID251 - a slow reader
    assert len(body) == length
    writer.close()


async def test_a_hundred_slow_ones_hold_up_nobody(cluster: DemoCluster) -> None:
    slow = []
    for _ in range(100):
        slow.append(await connect(cluster.http))
        slow[-1][1].write(POST + b"content-length: 9\r\n\r\n{")
    reader, writer = await connect(cluster.http)
    writer.write(HEAD + b"connection: close\r\n\r\n")
    assert (await read_answer(reader)).status == 200
    writer.close()
    for reader, writer in slow:
        assert (await read_answer(reader)).status == 408
        writer.close()
