"""Who was given prompts to compute lately, whether or not it is still at it.

When calls come one after the other, everybody is idle at every choice, and load alone would let one worker have all of
them. The past fades with each choice, not with time, so that it means the same at any rate.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, final

from router.core.policy.prefix_table import Home

__all__ = ["RecentWork"]

_KEPT_PER_CHOICE: Final = 0.97
"""About the last thirty choices count."""


@final
class RecentWork:
    """Bytes of prompts per worker of one model."""

    def __init__(self) -> None:
        self._choices = 0
        self._work: dict[Home, tuple[float, int]] = {}
        """Bytes, and the number of choices when they were right."""

    def of(self, home: Home) -> float:
        """Bytes, those of long ago counting less."""
        known = self._work.get(home)
        if known is None:
            return 0.0
        num_bytes, at = known
        return num_bytes * _KEPT_PER_CHOICE ** (self._choices - at)

    def add(self, home: Home, num_bytes: int) -> None:
        """One choice: that worker gets so many bytes to compute."""
        self._choices += 1
        self._work[home] = (self.of(home) + num_bytes, self._choices)

    def retain(self, alive: Collection[Home]) -> None:
        """Forgets every worker that is not among them."""
        self._work = {home: known for home, known in self._work.items() if home in alive}
