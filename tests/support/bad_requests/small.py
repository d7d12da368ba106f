"""Small rows of the catalogue, for what is sent many times."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from tests.support.bad_requests.row import Row

__all__ = ["Small", "is_tried_out", "one_of_each", "small"]

Small = Mapping[tuple[str, str], Mapping[str, Any]]
"""(door, name) → what is sent there."""

_BYTES_MAX: Final = 4096
_TRIED_OUT: Final = frozenset({"B24", "B25", "B26"})


def small(rows: Iterable[Row]) -> Small:
    """All that are small."""
    return {
        (door, f"{row.id} {row.about}"): asked
        for row in rows
        for door, (asked, _) in row.says.items()
        if len(json.dumps(asked)) < _BYTES_MAX
    }


def one_of_each(rows: Iterable[Row]) -> Small:
    """The first small one for each door and reason, by these two."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        for (door, _), asked in small([row]).items():
            found.setdefault((door, row.reason), asked)
    return found


def is_tried_out(row: Row) -> bool:
    """Whether it is about a constraint: those are tried out in a process of their own, which takes its time."""
    return row.id in _TRIED_OUT
