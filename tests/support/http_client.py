"""A client of HTTP that can be as rude as a test needs: it writes bytes and reads what comes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.support.patience import PATIENCE_S

__all__ = ["HttpAnswer", "ask_http", "connect", "post_json", "read_answer"]


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """One response, whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """`error.code`."""
        return str(self.json["error"]["code"])


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def read_answer(reader: asyncio.StreamReader) -> HttpAnswer:
    """Until the connection ends or the announced length is there."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *lines = head.rstrip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    length = headers.get("content-length")
    code = int(status.split()[1])
    if code == 204:
        return HttpAnswer(code, headers, b"")
    body = await (reader.read() if length is None else reader.readexactly(int(length)))
    return HttpAnswer(code, headers, body)


async def ask_http(url: str, request: bytes, *, within_s: float = PATIENCE_S) -> HttpAnswer:
    """Sends these bytes on a connection of their own. Never answered within the time: a failure."""
    reader, writer = await connect(url)
    try:
        writer.write(request)
        async with asyncio.timeout(within_s):
            return await read_answer(reader)
    finally:
        writer.close()


async def post_json(
    url: str, path: str, body: bytes, *, headers: dict[str, str] | None = None
) -> HttpAnswer:
    """A well-behaved POST unless `headers` say otherwise (an empty value takes one away)."""
    sent = {
        "host": urlsplit(url).netloc,
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        **(headers or {}),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items() if value)
    return await ask_http(url, f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body)
