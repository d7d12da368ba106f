"""How long a worker takes for a token, compared with its like.

A step over more rows takes longer, but never longer per row. So a point (rows, seconds) of one worker bounds what it
takes with any other number of rows, and workers with different batches can be compared without knowing their curve:

    seconds(r) <= seconds(r') * max(1, r / r')
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median_low
from typing import Final, final

__all__ = ["Pace", "usual_s"]

_KEPT_S: Final = 60.0
"""Points older than that say nothing any more."""


@final
class Pace:
    """The points of one worker: the newest of each doubling of rows."""

    __slots__ = ("_points", "newest")

    def __init__(self) -> None:
        self._points: dict[int, tuple[int, float, float]] = {}
        """Bits of the number of rows → (rows, seconds, when)."""
        self.newest: tuple[int, float, float] | None = None
        """(rows, seconds, when)."""

    def measured(self, *, rows: int, token_s: float, now: float) -> None:
        """A step over `rows` sequences took `token_s` seconds."""
        self.newest = self._points[rows.bit_length()] = (rows, token_s, now)

    def bound_s(self, rows: int, now: float) -> float | None:
        """A step over `rows` sequences takes at most so long here; None when nothing is known."""
        bounds = [
            token_s * max(1.0, rows / known)
            for known, token_s, at in self._points.values()
            if now - at <= _KEPT_S
        ]
        return min(bounds, default=None)


def usual_s(paces: Sequence[Pace], rows: int, now: float) -> float | None:
    """What a step over `rows` sequences takes half of the workers at most; None with fewer than two to compare."""
    bounds = [bound for pace in paces if (bound := pace.bound_s(rows, now)) is not None]
    return median_low(bounds) if len(bounds) > 1 else None
