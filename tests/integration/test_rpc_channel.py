"""Channels and slow machines: a peer that is late is not a peer that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.rpc.channel import open_channel
from common.rpc.server import RpcServer
from tests.support.patience import PATIENCE_S

BYTES_MAX = 1 << 20
LATE_S = 0.6
"""A busy moment; far less than a try to connect may take."""


@asynccontextmanager
async def _late(port: int) -> AsyncIterator[str]:
    """A way to `port` on which the server's first bytes take `LATE_S`: its machine is busy."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    connections: list[asyncio.Task[Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.append(task)
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        busy = asyncio.Event()
        asyncio.get_running_loop().call_later(LATE_S, busy.set)

        async def answer() -> None:
            await busy.wait()
            await carry(up_reader, writer)

        await asyncio.gather(carry(reader, up_writer), answer())

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        # Whoever connected is gone: what stands between ends with it, before the loop does.
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*connections)


async def test_a_peer_that_is_slow_to_connect_is_waited_for() -> None:
    server = RpcServer(host="127.0.0.1", port=0, message_bytes_max=BYTES_MAX)
    port = await server.start()
    server.set_serving(True)
    async with _late(port) as address:
        async with open_channel(address, message_bytes_max=BYTES_MAX) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    await server.stop(0)


async def test_a_peer_that_is_gone_is_told_at_once() -> None:
    server = RpcServer(host="127.0.0.1", port=0, message_bytes_max=BYTES_MAX)
    port = await server.start()
    await server.stop(0)
    async with open_channel(f"127.0.0.1:{port}", message_bytes_max=BYTES_MAX) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
