"""A client that opens streams and lets nobody send it anything: no window, never."""

from __future__ import annotations

import asyncio
from typing import final

from loadtest.clients import http2

__all__ = ["SilentClient"]

_HEADERS = b"\x83\x86" + http2.header_block(
    [
        (b":path", b"/lepton.v1.InferenceService/Generate"),
        (b":authority", b"silent"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]
)
_INITIAL_WINDOW_SIZE = 4


@final
class SilentClient(http2.Http2):
    """One connection."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = 0
        """Streams whose headers have come."""
        self.bytes = 0

    @classmethod
    async def connect(cls, address: str) -> SilentClient:
        host, _, port = address.rpartition(":")
        _, client = await asyncio.get_running_loop().create_connection(cls, host, int(port))
        client.transport.write(http2.PREFACE + http2.settings((_INITIAL_WINDOW_SIZE, 0)))
        return client

    def open(self, request: bytes, streams: int) -> None:
        """Asks the same on so many streams."""
        for number in range(1, 2 * streams, 2):
            self.transport.write(
                http2.frame(http2.HEADERS, 4, number, _HEADERS)
                + http2.frame(http2.DATA, http2.END_STREAM, number, http2.message(request))
            )

    def on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self.answered += kind == http2.HEADERS
        self.bytes += len(payload) if kind == http2.DATA else 0
