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
        async with asyncio.timeout(5):
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


@pytest.fixture(name="cluster", scope="module", loop_scope="module")
async def _cluster() -> AsyncIterator[ResumingCluster]:
    async with resuming_cluster(("w1",), num_routers=1, gateway=SETTINGS) as cluster:
        cluster.pace.free()
        yield cluster
