"""Is memory flat? A rule with a confidence, for samples taken at quiet moments.

    RSS │      ·  · ·                  · samples   ─ lower envelope: least of each window
        │  ·─────·──────·──·───────    slope: Theil–Sen, the median over all pairs of envelope points
        │ ·      ·   ·     ·           bounds: 95 % by Sen's method (the ranks at which Kendall's S is not significant)
        │·
        └───────┼────────────── requests
         warm-up

The lower envelope, because an allocator gives memory back late: what matters is what it cannot give back. By request
and not by hour, because that is what a leak grows with, and the answer is the same on a slow machine. The verdict:

    leaks    the lower bound is above the limit: memory grows, and that is no accident
    flat     the upper bound is below the limit: a leak of that size would have been seen
    unclear  neither: run longer

Sources: P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", 1968.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, Literal

__all__ = ["Flatness", "Point", "flatness"]

WARM_UP: Final = 0.3
"""Share of the samples at the beginning that do not count: caches fill, allocators find their size."""
WINDOWS: Final = 10
"""Points of the lower envelope, at most."""
POINTS_MIN: Final = 6
"""With fewer even a straight line proves nothing at 95 %."""
Z_95: Final = 1.96

Verdict = Literal["flat", "leaks", "unclear"]


@dataclass(frozen=True, slots=True)
class Point:
    """One quiet moment."""

    requests: int
    """Ended since the start."""
    rss: int
    """Resident memory, bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flatness:
    """Growth in bytes per request, with its 95 % bounds."""

    verdict: Verdict
    slope: float
    low: float
    high: float
    limit: float
    envelope: tuple[Point, ...]


def flatness(points: Sequence[Point], *, limit: float, warm_up: int = 0) -> Flatness:
    """Judges samples in the order in which they were taken; `limit` in bytes per request.

    The first `warm_up` requests do not count, nor the first `WARM_UP` of all samples. Raises ValueError when what is
    left is too little for any judgement.
    """
    counted = [
        point for point in points[math.ceil(WARM_UP * len(points)) :] if point.requests > warm_up
    ]
    envelope = _lower_envelope(counted)
    if len(envelope) < POINTS_MIN:
        raise ValueError(
            f"{len(counted)} samples after the warm-up are too few; at least {POINTS_MIN}"
        )
    slopes = sorted(
        (later.rss - earlier.rss) / (later.requests - earlier.requests)
        for earlier, later in itertools.combinations(envelope, 2)
    )
    num = len(envelope)
    reach = Z_95 * math.sqrt(num * (num - 1) * (2 * num + 5) / 18)
    low = slopes[max(0, math.floor((len(slopes) - reach) / 2))]
    high = slopes[min(len(slopes) - 1, math.ceil((len(slopes) + reach) / 2))]
    return Flatness(
        verdict="leaks" if low > limit else "flat" if high < limit else "unclear",
        slope=median(slopes),
        low=low,
        high=high,
        limit=limit,
        envelope=tuple(envelope),
    )


def _lower_envelope(points: Sequence[Point]) -> list[Point]:
    """The least of each window; windows of equal length, so that a busy one weighs no more than others."""
    size = max(1, len(points) // WINDOWS)
    windows = (points[start : start + size] for start in range(0, len(points) - size + 1, size))
    return [min(window, key=lambda point: point.rss) for window in windows]
