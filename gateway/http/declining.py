"""One HTTP/1.1 connection on which offers of protocols that we do not speak are ignored, as RFC 9110, 7.8 has it.

Clients offer HTTP/2 so (`upgrade: h2c`; Java's does by default). The parser takes every offer for accepted: it drops
the body of the request that carries it, and reads no request after it.
"""

from __future__ import annotations

from typing import Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["DecliningProtocol"]

_OFFERS: Final = frozenset({b"upgrade", b"http2-settings"})


class DecliningProtocol(HttpToolsProtocol):
    """Reads a request with such an offer once more, without it."""

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
            except httptools.HttpParserUpgrade as offer:
                if not self._should_upgrade():
                    data = self._plain_head() + data[offer.args[0] :]
                    self.parser = httptools.HttpRequestParser(self)
                    continue
                self.handle_websocket_upgrade()
            return

    def on_headers_complete(self) -> None:
        if not self._is_declined():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._is_declined():
            super().on_message_complete()

    def _is_declined(self) -> bool:
        return (
            self.parser.should_upgrade()
            and not self._should_upgrade()
            and self.parser.get_method() != b"CONNECT"
        )

    def _plain_head(self) -> bytes:
        lines = [
            b"%b %b HTTP/%b"
            % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        ]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(token for token in tokens if token.lower() not in _OFFERS)
            if value and name not in _OFFERS:
                lines.append(name + b": " + value)
        return b"\r\n".join([*lines, b"", b""])
