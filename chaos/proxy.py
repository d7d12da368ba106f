"""A TCP proxy that breaks connections in every way that a network can. One per link; faults change while it runs.

    async with FaultProxy("127.0.0.1:50061", clock) as proxy:      # proxy.address stands for the target
        proxy.faults = LinkFaults(delay_s=0.2, jitter_s=0.1)
        proxy.reset()                                              # RST on every connection

Bytes that are held back are delivered when the fault is taken away, as TCP would: nothing is ever left out of a stream,
except what `corrupt` changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import dataclass
from typing import Final, Literal, Self, final

from common.clock import Clock

__all__ = ["Direction", "FaultProxy", "LinkFaults"]

Direction = Literal["up", "down"]
"""`up`: from whoever connected to the target; `down`: back."""

_READ_BYTES: Final = 64 * 1024
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 seconds: close() sends RST."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFaults:
    """What is wrong with a link. The default is nothing."""

    delay_s: float = 0.0
    """Before each piece is passed on."""
    jitter_s: float = 0.0
    """Most that is added to or taken from `delay_s`, drawn for each piece."""
    bytes_per_s: float = 0.0
    """Throttle for each connection and direction; 0 is off."""
    segment_bytes: int = 0
    """Pieces of at most that size, each written by itself; 0 is off."""
    stalls: tuple[Direction, ...] = ()
    """Directions in which nothing moves; connections stay open. Both: a black hole, also for new connections."""
    refuses: bool = False
    """New connections are reset at once."""
    corrupts: float = 0.0
    """Chance that one byte of a piece is changed."""


@final
class FaultProxy:
    """See the module. Resources: the listener and all connections end with the block."""

    def __init__(self, target: str, clock: Clock, *, seed: int = 0) -> None:
        """`target` is host:port."""
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._clock = clock
        self._random = random.Random(seed)
        self._faults = LinkFaults()
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._near: set[asyncio.StreamWriter] = set()
        """Of these, the ends of whoever connected."""
        self._half_closed: set[asyncio.StreamWriter] = set()
        """Of these, the ones that were told to be at their end."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.num_connections = 0
        """Accepted so far."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def address(self) -> str:
        """host:port to use in the place of the target."""
        if self._server is None:
            raise RuntimeError("the proxy is not open")
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def faults(self) -> LinkFaults:
        """What is wrong with the link now."""
        return self._faults

    @faults.setter
    def faults(self, faults: LinkFaults) -> None:
        self._faults = faults
        self._changed.set()
        self._changed = asyncio.Event()

    def black_hole(self) -> None:
        """Connections stay, new ones are accepted, nothing comes through."""
        self.faults = LinkFaults(stalls=("up", "down"))

    def heal(self) -> None:
        """Nothing is wrong any more; what was held back goes on."""
        self.faults = LinkFaults()

    def reset(self) -> None:
        """RST to both ends of every connection."""
        for writer in tuple(self._open):
            _abort(writer)

    def half_close(self) -> None:
        """FIN to whoever connected; the other direction stays open."""
        for writer in tuple(self._open):
            if writer in self._near:
                with contextlib.suppress(OSError):
                    self._half_closed.add(writer)
                    writer.write_eof()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.num_connections += 1
        try:
            if self._faults.refuses:
                return
            await self._flows("up")
            await self._relay(reader, writer)
            writer.close()
        except (OSError, asyncio.CancelledError):
            return  # cancelled by `__aexit__`; the streams of asyncio would report it as an error
        finally:
            _abort(writer)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self._host, self._port)
        pair = (writer, there_writer)
        self._open.update(pair)
        self._near.add(writer)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, there_writer, "up"))
                pumps.create_task(self._pump(there_reader, writer, "down"))
            there_writer.close()
        except* OSError as group:
            raise ConnectionResetError from group  # what one end met the other end meets
        finally:
            self._open.difference_update(pair)
            self._near.discard(writer)
            self._half_closed.discard(writer)
            _abort(there_writer)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        while data := await reader.read(_READ_BYTES):
            size = self._faults.segment_bytes or len(data)
            for start in range(0, len(data), size):
                await self._pass_on(data[start : start + size], writer, direction)
        await self._flows(direction)
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()

    async def _pass_on(
        self, piece: bytes, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        faults = self._faults
        if faults.delay_s or faults.jitter_s:
            jitter_s = self._random.uniform(-faults.jitter_s, faults.jitter_s)
            await self._clock.sleep(max(0.0, faults.delay_s + jitter_s))
        if faults.bytes_per_s:
            await self._clock.sleep(len(piece) / faults.bytes_per_s)
        if faults.corrupts and self._random.random() < faults.corrupts:
            at = self._random.randrange(len(piece))
            piece = piece[:at] + bytes([piece[at] ^ 0x20]) + piece[at + 1 :]
        await self._flows(direction)
        if writer in self._half_closed:
            return  # said to be at its end: what comes after that is nobody's
        writer.write(piece)
        await writer.drain()
        if faults.segment_bytes:
            await self._clock.sleep(0)  # whoever reads may be on this loop, and shall see pieces

    async def _flows(self, direction: Direction) -> None:
        """Returns when nothing holds that direction back."""
        while direction in self._faults.stalls:
            await self._changed.wait()


def _abort(writer: asyncio.StreamWriter) -> None:
    """Closes with RST, unless it was closed in peace."""
    if writer.is_closing():
        return
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
