"""Who calls: until there is tenancy, the name that the request metadata give."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, Protocol

from common.errors import InvalidRequest, Reason
from common.rpc.metadata import CALLER_KEY

__all__ = ["caller_as_said", "caller_metadata", "caller_of"]

_CHARS_MAX: Final = 128
_CALLER: Final = re.compile(rf"[!-~]{{0,{_CHARS_MAX}}}")


class _Call(Protocol):
    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


def caller_of(context: _Call | Any) -> str:
    """The value of `lepton-caller`, the first one when there are several; "" for a call without it.

    Raises `InvalidRequest(FIELD_MALFORMED)`.
    """
    for key, value in context.invocation_metadata() or ():
        if key == CALLER_KEY:
            if not isinstance(value, str) or not _CALLER.fullmatch(value):
                raise InvalidRequest(
                    f"metadata {CALLER_KEY} must be at most {_CHARS_MAX} printable ASCII characters without spaces",
                    reason=Reason.FIELD_MALFORMED,
                    field=CALLER_KEY,
                )
            return value
    return ""


def caller_as_said(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The same for logs, of calls that are refused as well: nobody has judged it, so it is cut to the length of one."""
    said = next((value for key, value in metadata if key == CALLER_KEY), "")
    return said[:_CHARS_MAX] if isinstance(said, str) else ""


def caller_metadata(caller: str) -> tuple[tuple[str, str], ...]:
    """What tells a worker on whose behalf a router asks."""
    return ((CALLER_KEY, caller),) if caller else ()
