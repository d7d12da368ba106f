"""gRPC: many streams on one connection."""

from __future__ import annotations

import asyncio
from typing import Final, final

from lepton.v1 import inference_pb2, types_pb2
from loadtest.clients import http2
from loadtest.clients.connection import Connection, Hooks, fail, open_to
from loadtest.clients.words import MODEL, WORD

__all__ = ["GrpcConnection", "connect", "count_tokens"]

_HEADERS: Final = b"\x83\x86" + http2.header_block(
    [
        (b":path", b"/lepton.v1.InferenceService/Generate"),
        (b":authority", b"bench"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]
)
_ACK_BYTES: Final = 1 << 20


async def connect(address: str, hooks: Hooks) -> Connection:
    """See `Connect`."""
    return await open_to(address, GrpcConnection(hooks))


@final
class GrpcConnection(Connection, http2.Http2):
    """Its windows are as large as can be."""

    def __init__(self, hooks: Hooks) -> None:
        Connection.__init__(self, hooks)
        http2.Http2.__init__(self)
        self._streams: dict[int, tuple[int, bytes]] = {}  # tokens so far, begin of a message
        self._next = 1
        self._unacknowledged = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        window = http2.window_update(0, http2.WINDOW_MAX - http2.WINDOW_DEFAULT)
        self.transport.write(http2.PREFACE + http2.settings((4, http2.WINDOW_MAX)) + window)

    def ask(self, prompt: str, tokens: int) -> None:
        """See `Connection.ask`."""
        request = inference_pb2.GenerateRequest(
            model=MODEL, text=prompt, stop=types_pb2.StopConditions(max_tokens=tokens)
        ).SerializeToString()
        number, self._next = self._next, self._next + 2
        self._streams[number] = (0, b"")
        self.transport.write(
            http2.frame(http2.HEADERS, 4, number, _HEADERS)
            + http2.frame(http2.DATA, http2.END_STREAM, number, http2.message(request))
        )

    def on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == http2.DATA:
            self._count(stream, payload)
        elif kind == http2.RST_STREAM:
            fail(f"a stream was reset after {self._streams[stream][0]} tokens")
        if flags & http2.END_STREAM and kind in (http2.DATA, http2.HEADERS):
            tokens, _ = self._streams.pop(stream)
            if not tokens:
                fail(f"a stream ended without a token: {payload!r}")
            self.hooks.on_end(self, tokens)

    def on_read(self) -> None:
        if self._unacknowledged > _ACK_BYTES:
            self.transport.write(http2.window_update(0, self._unacknowledged))
            self._unacknowledged = 0

    def _count(self, stream: int, payload: bytes) -> None:
        self._unacknowledged += len(payload)
        before, rest = self._streams[stream]
        tokens, messages, rest = count_tokens(rest + payload)
        self.tokens += tokens
        self.messages += messages
        self._streams[stream] = (before + tokens, rest)
        if tokens and not before:
            self.hooks.on_first()


def count_tokens(data: bytes) -> tuple[int, int, bytes]:
    """Tokens, messages that have some, and the begin of the next one. Messages may have been merged on their way."""
    tokens, messages, at = 0, 0, 0
    while len(data) - at >= 5:
        end = at + 5 + int.from_bytes(data[at + 1 : at + 5])
        if end > len(data):
            break
        if found := data.count(WORD, at + 5, end):
            tokens += found
            messages += 1
        at = end
    return tokens, messages, data[at:]
