"""What came of one row, in the shape of OpenAI's batch output."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec

__all__ = ["RowResult", "WrittenRow", "read_result"]

_ID: Final = re.compile(r"batch_req_([1-9]\d{0,11})")
_TEXT_BYTES_MAX: Final = 4096


class _Usage(msgspec.Struct):
    completion_tokens: int = 0


class _Body(msgspec.Struct):
    usage: _Usage | None = None


class _Error(msgspec.Struct):
    code: str
    message: str


class _Response(msgspec.Struct):
    status_code: int
    request_id: str
    body: msgspec.Raw


class _Line(msgspec.Struct):
    id: str
    custom_id: str | None
    response: _Response | None
    error: _Error | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowResult:
    """Either the server's response or an error of ours."""

    line: int
    """In the input, from 1."""
    custom_id: str | None
    """None: it could not be read."""
    status: int | None = None
    """None: the server did not answer, or was not asked."""
    request_id: str = ""
    body: bytes = b""
    """The server's, as it came."""
    code: str = ""
    """Of our error, for programs."""
    message: str = ""

    @property
    def is_success(self) -> bool:
        return self.status == 200 and not self.code

    @property
    def failure(self) -> str:
        """One word for counting: our code, or the status with the server's code; empty for a success."""
        if self.is_success:
            return ""
        return self.code or f"{self.status} {_server_code(self.body)}".rstrip()

    @property
    def completion_tokens(self) -> int:
        """As the server counted them; 0 where it did not."""
        try:
            usage = msgspec.json.decode(self.body, type=_Body).usage
        except (msgspec.DecodeError, RecursionError):
            return 0
        return usage.completion_tokens if usage else 0

    def encode(self) -> bytes:
        """One line with its newline."""
        response = None
        if self.status is not None:
            response = _Response(self.status, self.request_id, msgspec.Raw(_one_line(self.body)))
        error = _Error(self.code, self.message) if self.code else None
        line = _Line(f"batch_req_{self.line}", self.custom_id, response, error)
        return msgspec.json.encode(line) + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenRow:
    """A line of an output file, as far as it matters to the next run."""

    line: int
    custom_id: str | None
    is_success: bool


def read_result(data: bytes) -> WrittenRow | None:
    """None when this is no line that `RowResult.encode` made."""
    try:
        found = msgspec.json.decode(data, type=_Line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    number = _ID.fullmatch(found.id)
    if number is None:
        return None
    is_success = found.error is None and found.response is not None
    if found.response is not None and found.response.status_code != 200:
        is_success = False
    return WrittenRow(line=int(number[1]), custom_id=found.custom_id, is_success=is_success)


def _one_line(body: bytes) -> bytes:
    """JSON without newlines; what is no JSON becomes a string."""
    try:
        return msgspec.json.format(body, indent=-1)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.json.encode(body[:_TEXT_BYTES_MAX].decode("utf-8", "replace"))


def _server_code(body: bytes) -> str:
    """`error.code` of an OpenAI-shaped error."""
    try:
        value: Any = msgspec.json.decode(body)
        code = value["error"]["code"]
    except (msgspec.DecodeError, RecursionError, KeyError, TypeError):
        return ""
    return code[:64] if isinstance(code, str) else ""
