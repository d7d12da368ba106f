"""Tells the log of unreadable entries: each once, and not more of them at a time than people read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, final

from common.logs import get_logger

__all__ = ["ProblemLog"]

_LINES_MAX: Final = 16

log = get_logger(__name__)


@final
class ProblemLog:
    """Remembers what it has told."""

    def __init__(self) -> None:
        self._told: Mapping[str, str] = {}

    def tell(self, problems: Mapping[str, str]) -> None:
        """Logs the problems that were not there, or were others, the last time."""
        new = [item for item in problems.items() if self._told.get(item[0]) != item[1]]
        self._told = problems
        for key, reason in new[:_LINES_MAX]:
            log.warning("discovery.bad_value", key=key, reason=reason)
        if len(new) > _LINES_MAX:
            log.warning("discovery.bad_values", more=len(new) - _LINES_MAX)
