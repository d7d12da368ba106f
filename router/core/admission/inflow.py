"""How much work arrives per second, lately."""

from __future__ import annotations

from math import exp
from typing import Final, final

__all__ = ["Inflow"]

_MEMORY_S: Final = 5.0


@final
class Inflow:
    """A sum that decays with time, divided by the time that it remembers."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._at = 0.0

    def add(self, tokens: int, now: float) -> None:
        """So much has come."""
        self._tokens = self._decayed(now) + tokens
        self._at = now

    def tokens_per_s(self, now: float) -> float:
        """Of the last seconds; young sums are too small rather than too large."""
        return self._decayed(now) / _MEMORY_S

    def _decayed(self, now: float) -> float:
        return self._tokens * exp(-max(0.0, now - self._at) / _MEMORY_S)
