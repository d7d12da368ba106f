"""Who calls: until there is tenancy, the name that the request metadata give."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Protocol

from common.rpc.metadata import CALLER_KEY

__all__ = ["CALLER_CHARS_MAX", "caller_metadata", "caller_of"]

CALLER_CHARS_MAX: Final = 256
"""Longer names are cut."""


class _Call(Protocol):
    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


def caller_of(context: _Call | Any) -> str:
    """The first name in the metadata; "" for a caller without one."""
    for key, value in context.invocation_metadata() or ():
        if key == CALLER_KEY and isinstance(value, str):
            return value[:CALLER_CHARS_MAX]
    return ""


def caller_metadata(caller: str) -> tuple[tuple[str, str], ...]:
    """What tells a worker on whose behalf a router asks."""
    return ((CALLER_KEY, caller),) if caller else ()
