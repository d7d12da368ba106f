"""One line in the log for each generation on a socket, as every other door writes one for each request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, final

from common.errors import Cancelled, LeptonError, Reason
from common.logs import get_logger
from common.rpc.interceptors import annotating

__all__ = ["Record", "recorded"]

_ROUTE: Final = "/v1/ws"
_MESSAGE_CHARS_MAX: Final = 2048

log = get_logger(__name__)


@final
@dataclass(slots=True)
class Record:
    """How a generation ended, as far as its owner knows."""

    error: LeptonError | None = None


@contextmanager
def recorded(request_id: str, caller: str, now: Callable[[], float]) -> Iterator[Record]:
    """Writes `websocket.call` when the block is left: with the record's error, and with what `annotate` added inside.

    `caller` is a name that nobody has judged yet; `now` tells seconds. A block that is cancelled lost its socket.
    """
    fields: dict[str, object] = {"request_id": request_id}
    if caller:
        fields["caller"] = caller
    began, record = now(), Record(Cancelled("the socket closed", reason=Reason.CLIENT_GONE))
    try:
        with annotating(fields):
            yield record
    finally:
        if (error := record.error) is not None:
            fields |= {"reason": error.reason.value, "error": error.message[:_MESSAGE_CHARS_MAX]}
        log.info(
            "websocket.call", route=_ROUTE, duration_ms=round(1e3 * (now() - began), 3), **fields
        )
