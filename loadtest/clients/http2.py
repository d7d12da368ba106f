"""As much of HTTP/2 as a measuring stick needs: both ends must cost far less per message than what stands between them.

A gRPC library would spend several times what nginx spends on a message, and one would measure the ends. Headers
are not read, so their compression does not matter; nobody pads.
Bytes of RFC 9113 (frames) and RFC 7541 (headers).
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable
from typing import Final, cast

__all__ = [
    "DATA",
    "END_STREAM",
    "HEADERS",
    "PREFACE",
    "RST_STREAM",
    "SETTINGS",
    "WINDOW_MAX",
    "WINDOW_UPDATE",
    "Http2",
    "frame",
    "header_block",
    "message",
    "settings",
    "window_update",
]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
WINDOW_MAX: Final = 2**31 - 1
WINDOW_DEFAULT: Final = 65_535
_HEAD: Final = struct.Struct("!HBBBL")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    size = len(payload)
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    """A SETTINGS frame of (identifier, value) pairs."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack("!HL", *pair) for pair in pairs))


def window_update(stream: int, more: int) -> bytes:
    """A WINDOW_UPDATE frame; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack("!L", more))


def header_block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Fields shorter than 127 bytes, as literals that no table remembers."""
    return b"".join(
        b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields
    )


def message(payload: bytes) -> bytes:
    """A gRPC message, uncompressed."""
    return b"\x00" + len(payload).to_bytes(4) + payload


class Http2(asyncio.Protocol):
    """One connection: takes frames apart and answers what has to be answered."""

    def __init__(self, *, skip: int = 0) -> None:
        self._skip = skip  # a server skips the client's preface
        self._rest = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at = self._skip
        if len(data) < at:
            self._rest = data
            return
        self._skip = 0
        while len(data) - at >= _HEAD.size:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            end = at + _HEAD.size + (high << 8 | low)
            if end > len(data):
                break
            payload = data[at + _HEAD.size : end]
            if kind == SETTINGS and not flags & ACK:
                self.transport.write(frame(SETTINGS, ACK, 0))
            if kind == PING:
                if not flags & ACK:
                    self.transport.write(frame(PING, ACK, 0, payload))
            else:
                self.on_frame(kind, flags, stream, payload)
            at = end
        self._rest = data[at:]
        self.on_read()

    def on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """One frame has arrived (PING excepted)."""

    def on_read(self) -> None:
        """All frames that have arrived were shown."""
