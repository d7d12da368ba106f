"""One line of a batch file in OpenAI's format, read and judged.

{"custom_id": "q-1", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": […]}}

Only what belongs to the batch is judged here; the body is the server's to judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from cli.batch.source import Line

__all__ = ["URLS", "BatchRow", "RowError", "read_row"]

URLS: Final = ("/v1/chat/completions", "/v1/completions")
_ID_CHARS_MAX: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """One request."""

    line: int
    """In the input, from 1."""
    custom_id: str
    url: str
    """One of `URLS`."""
    body: bytes
    """JSON, as it stood there."""


class RowError(Exception):
    """Why a line is not sent."""

    def __init__(self, code: str, message: str, *, custom_id: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        """Stable, for programs."""
        self.message = message
        self.custom_id = custom_id
        """Where it could be read."""


class _Row(msgspec.Struct):
    custom_id: str
    url: str
    body: msgspec.Raw
    method: str = "POST"


class _Asks(msgspec.Struct):
    stream: Any = None


def read_row(line: Line) -> BatchRow:
    """Raises `RowError`."""
    if line.data is None:
        raise RowError("line_too_long", f"line {line.number} is longer than {line.bytes_max} bytes")
    try:
        row = msgspec.json.decode(line.data, type=_Row)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # ValidationError is a DecodeError: then it is JSON, but not a row.
        is_json = isinstance(error, msgspec.ValidationError)
        code = "invalid_row" if is_json else "invalid_json"
        raise RowError(
            code, f"line {line.number}: {error}", custom_id=_custom_id(line.data)
        ) from None
    if not 0 < len(row.custom_id) <= _ID_CHARS_MAX:
        raise RowError(
            "invalid_custom_id", f"line {line.number}: custom_id has 1 to {_ID_CHARS_MAX} letters"
        )
    if row.method != "POST":
        raise _refused(row, "invalid_method", f"method {row.method[:32]!r}: only POST is possible")
    if row.url not in URLS:
        raise _refused(row, "invalid_url", f"url {row.url[:128]!r}: use {' or '.join(URLS)}")
    body = bytes(row.body)
    if not body.lstrip().startswith(b"{"):
        raise _refused(row, "invalid_body", "body must be a JSON object")
    if _streams(body):
        raise _refused(row, "stream_not_allowed", "stream is not possible in a batch: leave it out")
    return BatchRow(line=line.number, custom_id=row.custom_id, url=row.url, body=body)


def _refused(row: _Row, code: str, message: str) -> RowError:
    return RowError(code, message, custom_id=row.custom_id)


def _streams(body: bytes) -> bool:
    try:
        return bool(msgspec.json.decode(body, type=_Asks).stream)
    except (msgspec.DecodeError, RecursionError):
        return False  # the server will say what is wrong with it


def _custom_id(data: bytes) -> str | None:
    """What a row that is wrong elsewhere is called."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    found = value.get("custom_id") if isinstance(value, dict) else None
    return found[:_ID_CHARS_MAX] if isinstance(found, str) else None
