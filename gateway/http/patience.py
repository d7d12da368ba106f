"""One HTTP/1.1 connection: uvicorn's, with an end to every wait for its peer.

A peer may be slow with the headers of a request, with a body, and with the next request. uvicorn waits by itself only
for the third, and not always: whatever arrives stops its timer. A body that somebody reads is timed by its reader
(`gateway.http.body`), one that nobody reads is timed here. One that takes nothing is given up by the kernel
(`gateway.http.protocol`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.http.declining import DecliningProtocol
from gateway.settings import GatewaySettings

__all__ = ["PatientProtocol"]


class PatientProtocol(DecliningProtocol):
    """Subclasses say whose settings hold."""

    settings: ClassVar[GatewaySettings]
    cycle: RequestResponseCycle | None  # type: ignore[assignment]  # None before the first request

    _late: asyncio.TimerHandle | None = None
    """Runs while a request is expected to go on: its headers, or a body that nobody reads any more."""
    _is_whole = True
    """Whether the last request has arrived to its end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect(self.settings.header_s_max, self._headers_are_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_between_requests() and self.timeout_keep_alive_task is None:
            # What came was no request, an empty line for example.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_whole = False
        self._expect(self.settings.header_s_max, self._headers_are_late)

    def on_headers_complete(self) -> None:
        self._came()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_whole = True
        self._came()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._is_whole and not self.transport.is_closing():
            self._expect(self.settings.body_s_max, self._body_is_late)

    def refuse(self, status: bytes, words: bytes) -> None:
        """Answers once, unless an answer has begun, and closes."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            head = b"HTTP/1.1 %s\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            self.transport.write(head % (status, len(words)) + words)
        self.transport.close()

    def _is_between_requests(self) -> bool:
        return (
            self.cycle is not None
            and self.cycle.response_complete
            and self._is_whole
            and not self.transport.is_closing()
        )

    def _expect(self, within_s: float, otherwise: Callable[[], None]) -> None:
        if self._late is None:
            self._late = self.loop.call_later(within_s, otherwise)

    def _came(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _headers_are_late(self) -> None:
        self.refuse(b"408 Request Timeout", b"the headers took too long\n")

    def _body_is_late(self) -> None:
        """It was answered long ago."""
        self.transport.close()
