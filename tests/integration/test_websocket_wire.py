"""What no library would send: a raw socket against the WebSocket door. Another one's generation goes on meanwhile."""

from __future__ import annotations

import asyncio
import base64
import os
import socket as sockets
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.settings import GatewaySettings
from tests.support.patience import PATIENCE_S
from tests.support.resuming import NUM_TOKENS, ResumingCluster, resuming_cluster, text_of
from tests.support.small_cluster import until
from tests.support.socket_client import socket_of

TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
FIN, MASKED = 0x80, 0x80
SETTINGS = GatewaySettings(
    port=0,
    socket_frames_max=8,
    body_bytes_max=64 << 10,
    slow_reader_s=0.3,
    socket_ping_s=0.1,
    socket_silence_s_max=5.0,
)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, size: int | None = None) -> bytes:
    """One masked frame; `size` is what it claims."""
    head = bytes([(FIN if fin else 0) | opcode])
    length = len(payload) if size is None else size
    if length < 126:
        head += bytes([MASKED | length])
    elif length < 1 << 16:
        head += bytes([MASKED | 126]) + struct.pack("!H", length)
    else:
        head += bytes([MASKED | 127]) + struct.pack("!Q", length)
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


class Raw:
    """An upgraded connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def frame(self) -> tuple[int, bytes]:
        async with asyncio.timeout(PATIENCE_S):
            first, size = await self.reader.readexactly(2)
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            return first & 0x0F, await self.reader.readexactly(size)

    async def close_code(self) -> int:
        """Of the next close frame."""
        while True:
            opcode, payload = await self.frame()
            if opcode == CLOSE:
                return int(struct.unpack("!H", payload[:2])[0])


@asynccontextmanager
async def raw_of(port: int, *, buffer: int = 0) -> AsyncIterator[Raw]:
    plain = sockets.socket()
    if buffer:
        plain.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, buffer)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=plain)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET /v1/ws HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        f"sec-websocket-key: {key}\r\nsec-websocket-version: 13\r\n"
        "sec-websocket-extensions: permessage-deflate\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"permessage-deflate" not in head
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


@pytest.fixture(name="cluster")
async def _cluster() -> AsyncIterator[ResumingCluster]:
    async with resuming_cluster(("w1",), num_routers=1, gateway=SETTINGS) as cluster:
        yield cluster


BAD = {
    "a frame without a mask": (b"\x81\x02hi", 1002),
    "an opcode that nobody knows": (frame(3, b"hi"), 1002),
    "a reserved bit": (bytes([frame(TEXT, b"hi")[0] | 0x40]) + frame(TEXT, b"hi")[1:], 1002),
    "a length of 2^63": (frame(TEXT, size=1 << 63), 1009),
    "a length beyond the limit": (frame(TEXT, size=(64 << 10) + 1), 1009),
    "a ping of 126 bytes": (frame(PING, b"x" * 126), 1002),
    "a ping in pieces": (frame(PING, b"x", fin=False), 1002),
    "half a character": (frame(TEXT, b"\xc3"), 1007),
    "bytes": (frame(BINARY, b"{}"), 1003),
    "a continuation of nothing": (frame(0, b"x"), 1002),
    "text inside text": (frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), 1002),
    "a close of one byte": (frame(CLOSE, b"x"), 1002),
    "a close code that may not be sent": (frame(CLOSE, struct.pack("!H", 1005)), 1002),
    "a thousand empty pieces": (frame(TEXT, fin=False) + frame(0, fin=False) * 1000, 1009),
    "pieces beyond the limit": (
        frame(TEXT, b"x" * 40_000, fin=False) + frame(0, b"x" * 40_000),
        1009,
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_frames_close_their_socket_and_no_other(
    cluster: ResumingCluster, name: str
) -> None:
    sent, code = BAD[name]
    port = cluster.routers[0].ports.http
    async with socket_of(port) as good, raw_of(port) as bad:
        request = {"text": "hello", "stop": {"max_tokens": NUM_TOKENS}}
        await good.say(type="start", id="a", request=request)
        bad.writer.write(sent)
        assert await bad.close_code() == code
        cluster.pace.free()
        assert (await good.until_ended("a"))["type"] == "end"
        assert good.text("a") == text_of(NUM_TOKENS)


async def test_pieces_within_the_limit_are_one_message(cluster: ResumingCluster) -> None:
    async with raw_of(cluster.routers[0].ports.http) as raw:
        raw.writer.write(frame(TEXT, b'{"type":', fin=False) + frame(0, b'"ping"}'))
        while (came := await raw.frame())[0] != TEXT:
            pass
        assert came == (TEXT, b'{"type":"pong"}')


async def test_idle_sockets_are_pinged(cluster: ResumingCluster) -> None:
    async with raw_of(cluster.routers[0].ports.http) as raw:
        opcode, payload = await raw.frame()
        assert (opcode, len(payload)) == (PING, 4)


async def test_who_answers_no_ping_is_cut() -> None:
    gone = SETTINGS.model_copy(update={"socket_silence_s_max": 1.0})
    async with resuming_cluster(("w1",), num_routers=1, gateway=gone) as cluster:
        async with raw_of(cluster.routers[0].ports.http) as raw:
            raw.writer.write(frame(TEXT, b'{"type":"start","id":"a","request":{"text":"hello"}}'))
            await until(lambda: cluster.num_computing() == 1, what="it runs")
            async with asyncio.timeout(PATIENCE_S):
                await raw.reader.read()  # to the end
        cluster.pace.free()
        await cluster.until_nothing_is_left()


async def test_who_reads_nothing_is_cut_and_computes_nothing(cluster: ResumingCluster) -> None:
    num_tokens = 15_000
    asked = b'{"type":"start","id":"%s","request":{"text":"hello","stop":{"max_tokens":%d},"output":{"logprobs":20}}}'
    async with raw_of(cluster.routers[0].ports.http, buffer=4096) as raw:
        raw.writer.transport.pause_reading()
        for name in (b"a", b"b", b"c", b"d"):
            raw.writer.write(frame(TEXT, asked % (name, num_tokens)))
        await until(lambda: cluster.num_computing() > 0, what="it runs")

        def is_over() -> bool:
            cluster.pace.allow(100)  # not more at once: what is computed before the cut would count
            return not cluster.num_computing()

        await until(is_over, what="no compute")
    assert cluster.pace.num_tokens < 4 * num_tokens
    await cluster.until_nothing_is_left()


async def test_pings_of_who_reads_nothing_pile_up_nowhere() -> None:
    """As long as the socket is there, that is: this one is not cut."""
    patient = SETTINGS.model_copy(update={"slow_reader_s": 600, "socket_silence_s_max": 600})
    async with resuming_cluster(("w1",), num_routers=1, gateway=patient) as cluster:
        door = cluster.routers[0].http
        assert door is not None
        async with raw_of(cluster.routers[0].ports.http, buffer=4096) as raw:
            raw.writer.transport.pause_reading()
            flood = frame(PING, b"x" * 125) * 500
            for _ in range(300):
                raw.writer.write(flood)
                await raw.writer.drain()
            (connection,) = door._server.server_state.connections
            waiting = connection.transport.get_write_buffer_size()
            assert waiting < 1 << 20
