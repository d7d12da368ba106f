"""Bytes of a connection → one HTTP response, whole and bounded. Sans-I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

import httptools

__all__ = ["Reply", "ReplyError", "ReplyReader"]

_HEAD_BYTES_MAX: Final = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One response."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case; of a name that came twice, the last."""
    body: bytes
    keeps_open: bool
    """Whether the connection may be used again."""


class ReplyError(Exception):
    """What came is no HTTP response, or more than was allowed."""


@final
class ReplyReader:
    """Reads one response. Interim ones (100 Continue) are skipped."""

    def __init__(self, *, body_bytes_max: int) -> None:
        self._body_bytes_max = body_bytes_max
        self._parser = httptools.HttpResponseParser(self)
        self._begin()
        self.begun = False
        """Something has come."""
        self.reply: Reply | None = None
        """The response, once it is whole."""

    def feed(self, data: bytes) -> None:
        """Takes what came. Raises `ReplyError`."""
        self.begun = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            # An error that a callback raised is wrapped by the parser.
            meant = error.__context__ if isinstance(error.__context__, ReplyError) else error
            raise ReplyError(f"this is no HTTP response: {meant}") from None

    def end(self) -> None:
        """The connection ended: the end of a response whose length was not told. Raises `ReplyError`."""
        if self.reply is not None:
            return
        if not self._head_is_whole or self._has_length:
            raise ReplyError("the connection ended in the middle of the response")
        self._finish(keeps_open=False)

    # --- what the parser calls ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > _HEAD_BYTES_MAX:
            raise ReplyError(f"headers of more than {_HEAD_BYTES_MAX} bytes")
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._head_is_whole = True
        self._has_length = bool({"content-length", "transfer-encoding"} & self._headers.keys())

    def on_body(self, body: bytes) -> None:
        self._num_bytes += len(body)
        if self._num_bytes > self._body_bytes_max:
            raise ReplyError(f"longer than {self._body_bytes_max} bytes")
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200 and self.reply is None:
            self._finish(keeps_open=self._parser.should_keep_alive())

    # --- inside ---------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._num_bytes = 0
        self._head_is_whole = False
        self._has_length = False

    def _finish(self, *, keeps_open: bool) -> None:
        self.reply = Reply(
            status=self._parser.get_status_code(),
            headers=self._headers,
            body=b"".join(self._body),
            keeps_open=keeps_open,
        )
