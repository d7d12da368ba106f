"""Each fault of a link, seen from both ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from chaos.proxy import FaultProxy, LinkFaults
from common.clock import SystemClock
from tests.support.patience import PATIENCE_S
from tests.support.processes import until


class Echo:
    """A server that sends everything back and counts how large its reads are."""

    def __init__(self) -> None:
        self.received = b""
        self.sizes: list[int] = []
        self.resets = 0
        self.ends = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.received += data
                self.sizes.append(len(data))
                writer.write(data)
                await writer.drain()
            self.ends += 1
        except ConnectionError:
            self.resets += 1
        writer.close()


@asynccontextmanager
async def echo_behind_proxy() -> AsyncIterator[tuple[FaultProxy, Echo]]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with FaultProxy(f"127.0.0.1:{port}", SystemClock(), seed=1) as proxy:
        yield proxy, echo
    server.close()


async def connect(proxy: FaultProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = proxy.address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def test_without_a_fault_everything_passes_and_ends_in_peace() -> None:
    async with echo_behind_proxy() as (proxy, echo):
        reader, writer = await connect(proxy)
        payload = bytes(range(256)) * 1000
        writer.write(payload)
        assert await reader.readexactly(len(payload)) == payload
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await until(lambda: echo.ends == 1, what="the end arrived")
        assert echo.resets == 0


async def test_slices_arrive_one_by_one_and_whole() -> None:
    async with echo_behind_proxy() as (proxy, echo):
        proxy.faults = LinkFaults(segment_bytes=1)
        reader, writer = await connect(proxy)
        writer.write(b"x" * 300)
        assert await reader.readexactly(300) == b"x" * 300
        assert len(echo.sizes) > 3  # the kernel may join a few of them
        writer.close()


@pytest.mark.parametrize("fault", [{"delay_s": 0.1}, {"bytes_per_s": 100.0}])
async def test_delay_and_throttle_take_their_time(fault: dict[str, float]) -> None:
    async with echo_behind_proxy() as (proxy, _):
        proxy.faults = LinkFaults(**fault)  # type: ignore[arg-type]
        reader, writer = await connect(proxy)
        clock = SystemClock()
        began = clock.now()
        writer.write(b"0123456789")
        await reader.readexactly(10)
        assert clock.now() - began >= 0.19  # both directions
        writer.close()


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_stall_holds_one_direction_back_and_loses_nothing(direction: str) -> None:
    async with echo_behind_proxy() as (proxy, echo):
        reader, writer = await connect(proxy)
        writer.write(b"a")
        await reader.readexactly(1)
        proxy.faults = LinkFaults(stalls=(direction,))  # type: ignore[arg-type]
        writer.write(b"b")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(
                asyncio.shield(reading := asyncio.ensure_future(reader.read(1))), 0.1
            )
        assert (echo.received == b"ab") is (direction == "down")
        proxy.heal()
        assert await asyncio.wait_for(reading, PATIENCE_S) == b"b"
        writer.close()


async def test_a_black_hole_accepts_and_is_silent_until_healed() -> None:
    async with echo_behind_proxy() as (proxy, echo):
        proxy.black_hole()
        reader, writer = await connect(proxy)
        writer.write(b"a")
        reading = asyncio.ensure_future(reader.read(1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(reading), 0.1)
        assert echo.received == b""
        proxy.heal()
        assert await asyncio.wait_for(reading, PATIENCE_S) == b"a"
        writer.close()


async def test_a_reset_reaches_both_ends() -> None:
    async with echo_behind_proxy() as (proxy, echo):
        reader, writer = await connect(proxy)
        writer.write(b"a")
        await reader.readexactly(1)
        proxy.reset()
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        writer.close()
        await until(lambda: echo.resets == 1, what="the server was reset")
        again, other = await connect(proxy)
        other.write(b"b")
        assert await again.readexactly(1) == b"b"
        other.close()


async def test_a_target_that_dies_resets_whoever_is_connected() -> None:
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.transport.abort()

    server = await asyncio.start_server(die, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with FaultProxy(f"127.0.0.1:{port}", SystemClock()) as proxy:
        reader, writer = await connect(proxy)
        writer.write(b"a")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
    server.close()


async def test_a_half_close_ends_reading_and_leaves_writing() -> None:
    async with echo_behind_proxy() as (proxy, echo):
        reader, writer = await connect(proxy)
        writer.write(b"a")
        await reader.readexactly(1)
        proxy.half_close()
        assert await reader.read() == b""
        writer.write(b"b")
        await writer.drain()
        await until(lambda: echo.received == b"ab", what="it arrived all the same")
        writer.close()


async def test_refused_connections_are_reset() -> None:
    async with echo_behind_proxy() as (proxy, _):
        proxy.faults = LinkFaults(refuses=True)
        reader, writer = await connect(proxy)
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        writer.close()
        proxy.heal()
        reader, writer = await connect(proxy)
        writer.write(b"a")
        assert await reader.readexactly(1) == b"a"
        writer.close()


async def test_corruption_changes_bytes_and_not_their_number() -> None:
    async with echo_behind_proxy() as (proxy, _):
        proxy.faults = LinkFaults(corrupts=1.0)
        reader, writer = await connect(proxy)
        writer.write(b"aaaaaaaaaa")
        got = await reader.readexactly(10)
        assert got != b"aaaaaaaaaa"
        writer.close()
