"""One HTTP/1.1 connection with bounds on what a peer can make it hold before a request even begins.

The parser below it (llhttp) has no bounds of its own on headers. What is refused here gets a bare status: there is no
call yet that could have an id.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

from common.logs import get_logger
from gateway.http.patience import PatientProtocol
from gateway.settings import GatewaySettings

__all__ = ["ABORT", "abort", "bounded_protocol"]

ABORT: Final = "lepton.abort"
"""Key of a scope: a function that cuts the connection at once, whatever still waits to be sent."""

log = get_logger(__name__)


class BoundedProtocol(PatientProtocol):
    """See the module."""

    _header_bytes = 0
    _body_parts = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.settings.connections_max:
            log.warning("http.connections_full", connections_max=self.settings.connections_max)
            transport.abort()
            return
        _give_up_on_silence(transport, self.settings.peer_silence_s_max)

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = self._body_parts = 0
        self.scope[ABORT] = self.transport.abort  # type: ignore[typeddict-unknown-key]

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._take(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._take(len(name) + len(value))

    def on_headers_complete(self) -> None:
        # Trailers come later, through `on_header` as well, when headers have been judged: they are none.
        self.scope["headers"] = list(self.headers)
        if not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_parts += 1
        if self._body_parts > self.settings.body_chunks_max:
            self.refuse(b"413 Content Too Large", b"the body has too many chunks\n")
        elif not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.transport.is_closing():
            super().on_message_complete()

    def _take(self, num_bytes: int) -> None:
        self._header_bytes += num_bytes
        if (
            self._header_bytes > self.settings.header_bytes_max
            or len(self.headers) > self.settings.headers_max
        ):
            self.refuse(
                b"431 Request Header Fields Too Large",
                b"the headers are too many or too large\n",
            )


def bounded_protocol(settings: GatewaySettings) -> type[BoundedProtocol]:
    """The class of connections that uvicorn makes, with the bounds of `settings`."""
    return type("BoundedProtocol", (BoundedProtocol,), {"settings": settings})


def _give_up_on_silence(transport: asyncio.Transport, seconds: int) -> None:
    """A peer that vanished, or takes nothing of what is sent, is given up by the kernel: nobody here waits for it."""
    connection = transport.get_extra_info("socket")
    if connection is None or not hasattr(socket, "TCP_USER_TIMEOUT"):
        return  # not a TCP connection of Linux
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * seconds)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, seconds // 2))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, seconds // 4))


def abort(scope: Any) -> None:
    """Cuts the connection of a request. Its client sees the stream break off."""
    cut = scope.get(ABORT)
    if cut is not None:
        cut()
