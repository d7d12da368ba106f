"""An HTTP/1.1 server on loopback that answers as a test says: one handler for everything, connections kept open."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["Asked", "ScriptedHttp", "Told", "scripted_http"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, whole."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One response. `raw` instead of all that: these bytes, and the connection ends."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    closes: bool = False
    raw: bytes | None = None


Handler = Callable[[Asked], Awaitable[Told]]


@dataclass(slots=True)
class ScriptedHttp:
    """What it was asked; change the handler between requests."""

    handler: Handler
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    num_connections: int = 0
    all_closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while every connection that there was has ended."""
    _num_open: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        self._num_open += 1
        self.all_closed.clear()
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._one(reader, writer):
                    pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self._num_open -= 1
            if not self._num_open:
                self.all_closed.set()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip()
        first, *lines = head.split("\r\n")
        method, path, _ = first.split()
        headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        asked = Asked(method=method, path=path, headers=headers, body=body)
        self.asked.append(asked)
        told = await self.handler(asked)
        if told.raw is not None:
            writer.write(told.raw)
            await writer.drain()
            return False
        sent = {"content-length": str(len(told.body)), **told.headers}
        lines_out = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        writer.write(f"HTTP/1.1 {told.status} X\r\n{lines_out}\r\n".encode("latin-1") + told.body)
        await writer.drain()
        return not told.closes


@contextlib.asynccontextmanager
async def scripted_http(
    handler: Handler, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedHttp]:
    """A server on a free port until the end of the block."""
    script = ScriptedHttp(handler)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(script.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    script.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield script
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
