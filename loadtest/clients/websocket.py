"""`/v1/ws`: many answers on one socket (RFC 6455)."""

from __future__ import annotations

import asyncio
import json
import re
import struct
from typing import Final, final

from loadtest.clients.connection import Connection, Hooks, fail, open_to
from loadtest.clients.words import MODEL, WORD

__all__ = ["WebSocketConnection", "connect", "frame"]

_HANDSHAKE: Final = (
    b"GET /v1/ws HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: bGVwdG9uLWxvYWR0ZXN0IQ==\r\n\r\n"
)
_SWITCHED: Final = b"HTTP/1.1 101 "
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA
_NO_MASK: Final = bytes(4)
"""Every frame of a client is masked; with zeros the bytes stay what they are."""
_WHAT: Final = re.compile(rb'"type":"(\w+)","id":"(\d+)"')


async def connect(address: str, hooks: Hooks) -> Connection:
    """See `Connect`."""
    return await open_to(address, WebSocketConnection(hooks))


@final
class WebSocketConnection(Connection):
    """Reads frames, and of a message its type and id."""

    def __init__(self, hooks: Hooks) -> None:
        super().__init__(hooks)
        self._ready = asyncio.Event()
        self._rest = b""
        self._answers: dict[bytes, int] = {}  # tokens so far
        self._next = 0

    async def ready(self) -> None:
        """See `Connection.ready`: the socket is accepted."""
        self.transport.write(_HANDSHAKE)
        await self._ready.wait()

    def ask(self, prompt: str, tokens: int) -> None:
        """See `Connection.ask`."""
        self._next += 1
        name = str(self._next)
        self._answers[name.encode()] = 0
        request = {"model": MODEL, "text": prompt, "stop": {"max_tokens": tokens}}
        text = json.dumps({"type": "start", "id": name, "request": request}).encode()
        self.transport.write(frame(_TEXT, text))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at = 0
        if not self._ready.is_set():
            if b"\r\n\r\n" not in data:
                self._rest = data
                return
            if not data.startswith(_SWITCHED):
                fail(f"the socket was refused: {data[:1000]!r}")
            at = data.index(b"\r\n\r\n") + 4
            self._ready.set()
        while len(data) - at >= 2:
            begin, length = at + 2, data[at + 1]
            if length == 126:
                begin, length = at + 4, int.from_bytes(data[at + 2 : at + 4])
            elif length == 127:
                begin, length = at + 10, int.from_bytes(data[at + 2 : at + 10])
            if begin + length > len(data):
                break
            self._take(data[at] & 0xF, data[begin : begin + length])
            at = begin + length
        self._rest = data[at:]

    def _take(self, kind: int, payload: bytes) -> None:
        if kind == _PING:
            self.transport.write(frame(_PONG, payload))
        elif kind == _TEXT:
            self._hear(payload)
        elif kind == _CLOSE:
            self.transport.close()

    def _hear(self, message: bytes) -> None:
        found = _WHAT.search(message)
        if found is None or found[1] == b"error":
            fail(f"the socket said {message[:1000]!r}")
        name = found[2]
        if found[1] == b"end":
            self.hooks.on_end(self, self._answers.pop(name))
        elif tokens := message.count(WORD):
            if not self._answers[name]:
                self.hooks.on_first()
            self._answers[name] += tokens
            self.tokens += tokens
            self.messages += 1


def frame(kind: int, payload: bytes) -> bytes:
    """A whole message of a client in one frame."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | kind, 0x80 | size)
    else:
        head = struct.pack("!BBH", 0x80 | kind, 0x80 | 126, size)
    return head + _NO_MASK + payload
