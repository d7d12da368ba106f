"""One row → its result: asked until it is answered, or for so long that nobody will."""

from __future__ import annotations

import email.utils
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, final

from cli.batch.result import RowResult
from cli.batch.row import BatchRow
from cli.http.connection import HttpConnection, Reply
from common.clock import Clock
from common.discovery.backoff import Backoff
from common.errors import DeadlineExceeded, Unavailable

__all__ = ["AskLimits", "RowAsker"]

_BUSY: Final = frozenset({408, 429, 503})
"""Not now: asked again as long as there is patience."""
_BROKEN: Final = frozenset({500, 502, 504})
"""Something went wrong there; the row may be the cause, so it is not asked often."""
_BROKEN_TRIES_MAX: Final = 3
_WAIT_S_MIN: Final = 0.5
_WAIT_S_MAX: Final = 15.0
_RETRY_AFTER_S_MAX: Final = 600.0
_REQUEST_ID_CHARS_MAX: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class AskLimits:
    """Seconds."""

    timeout_s: float
    """Longest that one try may take."""
    patience_s: float
    """How long after its first failure a row is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setback:
    """A try that may be repeated."""

    result: RowResult
    """What the row gets when it is not."""
    why: str
    wait_s: float = 0.0
    """As the server asks; 0: it does not say."""
    lost: Unavailable | None = None
    """Nobody answered at all."""


@final
@dataclass(slots=True, kw_only=True)
class RowAsker:
    """Shared by everything that asks at the same time: what one sees, the others know."""

    clock: Clock
    limits: AskLimits
    headers: Mapping[str, str] = field(default_factory=dict)
    on_setback: Callable[[str], None] = lambda _: None
    """Is told why a row is tried again."""
    num_replies: int = 0
    num_retries: int = 0

    async def ask(self, connection: HttpConnection, row: BatchRow) -> RowResult:
        """What came of it. Asking twice is safe: generating changes nothing.

        Raises `Unavailable(UNREACHABLE)` when nobody has answered anything for as long as there was patience: that is
        not the fault of this row. Cancellation: the server stops computing.
        """
        backoff = Backoff(self.clock, least_s=_WAIT_S_MIN, most_s=_WAIT_S_MAX)
        replies_before = self.num_replies
        gives_up_at: float | None = None
        tries = 1
        while isinstance(outcome := await self._try(connection, row, tries), _Setback):
            now = self.clock.now()
            if gives_up_at is None:
                gives_up_at = now + self.limits.patience_s
            if now + outcome.wait_s >= gives_up_at:
                if outcome.lost is not None and self.num_replies == replies_before:
                    raise outcome.lost
                return outcome.result
            tries += 1
            self.num_retries += 1
            self.on_setback(outcome.why)
            if outcome.wait_s:
                await self.clock.sleep(outcome.wait_s)
            else:
                await backoff.wait()
        return outcome

    async def _try(
        self, connection: HttpConnection, row: BatchRow, tries: int
    ) -> RowResult | _Setback:
        try:
            reply = await connection.ask(
                "POST",
                row.url,
                headers=self.headers,
                body=row.body,
                timeout_s=self.limits.timeout_s,
            )
        except DeadlineExceeded as error:
            return _failed(row, "timeout", error.message)
        except Unavailable as error:
            result = _failed(row, "connection_lost", error.message)
            return _Setback(result=result, why=error.message, lost=error)
        self.num_replies += 1
        result = _answered(row, reply)
        if not _may_help(reply, tries):
            return result
        return _Setback(result=result, why=result.failure, wait_s=self._retry_after_s(reply))

    def _retry_after_s(self, reply: Reply) -> float:
        headers = reply.headers
        seconds = _number(headers.get("retry-after-ms", "")) / 1e3
        if not seconds and (text := headers.get("retry-after", "")):
            seconds = _number(text) or self._until(text)
        return min(max(0.0, seconds), _RETRY_AFTER_S_MAX)

    def _until(self, date: str) -> float:
        try:
            return email.utils.parsedate_to_datetime(date).timestamp() - self.clock.wall()
        except (ValueError, OverflowError):
            return 0.0


def _may_help(reply: Reply, tries: int) -> bool:
    """Whether the same request may get another answer. The server's word (`x-should-retry`) outweighs its status."""
    word = reply.headers.get("x-should-retry", "").lower()
    if word in {"true", "false"}:
        return word == "true"
    return reply.status in _BUSY or (reply.status in _BROKEN and tries < _BROKEN_TRIES_MAX)


def _answered(row: BatchRow, reply: Reply) -> RowResult:
    is_answer = reply.status != 200 or reply.body.lstrip()[:1] == b"{"
    return RowResult(
        line=row.line,
        custom_id=row.custom_id,
        status=reply.status,
        request_id=reply.headers.get("x-request-id", "")[:_REQUEST_ID_CHARS_MAX],
        body=reply.body,
        code="" if is_answer else "invalid_response",
        message="" if is_answer else "status 200, but no JSON object",
    )


def _failed(row: BatchRow, code: str, message: str) -> RowResult:
    return RowResult(line=row.line, custom_id=row.custom_id, code=code, message=message)


def _number(text: str) -> float:
    """Seconds of a header; 0 for what is no number."""
    return float(text) if text.replace(".", "", 1).isdecimal() else 0.0
