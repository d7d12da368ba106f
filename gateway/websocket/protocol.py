"""One WebSocket on the wire: uvicorn's, with bounds on what a peer can make it hold.

Size of a message and keepalive are uvicorn's own, by its settings. Compression is off: a few bytes may inflate to
anything.
"""

from __future__ import annotations

from typing import Final, final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request

from gateway.http.protocol import ABORT
from gateway.settings import GatewaySettings

__all__ = ["bounded_socket"]

_NO_HANDSHAKE: Final = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def bounded_socket(settings: GatewaySettings) -> type[WebSocketsSansIOProtocol]:
    """The class of sockets that uvicorn makes, with the bounds of `settings`."""

    @final
    class BoundedSocket(WebSocketsSansIOProtocol):
        """See the module."""

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.handshake_exc is not None and not self.handshake_initiated:
                # The request was none of a handshake, which uvicorn does not look at.
                self.transport.write(b"".join(self.conn.data_to_send()) or _NO_HANDSHAKE)
                self.transport.close()

        def handle_connect(self, event: Request) -> None:
            super().handle_connect(event)
            if not self.handshake_complete:  # it was not refused
                self.scope[ABORT] = self.transport.abort  # type: ignore[typeddict-unknown-key]

        def handle_cont(self, event: Frame) -> None:
            # A frame of two bytes costs forty in memory; an empty one is not counted by the limit on size.
            if len(self.frames) < settings.socket_frames_max:
                super().handle_cont(event)
                return
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, "too many frames in one message")
            self.handle_parser_exception()

        def handle_ping(self) -> None:
            answer = self.conn.data_to_send()
            if self.writable.is_set():  # else it only sends, and answers would pile up
                self.transport.write(b"".join(answer))

        def keepalive_timeout(self) -> None:
            super().keepalive_timeout()
            # Closing alone waits for a peer that takes nothing.
            self.transport.abort()

    return BoundedSocket
