"""Many numbers → a few. Memory is bounded: beyond `VALUES_MAX` of them a fair sample stands for all."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

__all__ = ["VALUES_MAX", "Spread", "Values", "percentile"]

VALUES_MAX: Final = 100_000
"""Numbers that are kept of one kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A distribution in a few numbers."""

    mean: float
    median: float
    p90: float
    p99: float
    max: float


@final
class Values:
    """Exact up to `values_max` numbers, from then on a uniform sample of that size (Vitter's algorithm R).

    Mean and maximum stay exact.
    """

    def __init__(self, *, values_max: int = VALUES_MAX, seed: int = 0) -> None:
        self._kept = array("d")
        self._values_max = values_max
        self._rng = random.Random(seed)
        self._count = 0
        self._sum = 0.0
        self._max = -math.inf

    def __len__(self) -> int:
        """How many were added."""
        return self._count

    def add(self, value: float) -> None:
        """Counts one more."""
        self._count += 1
        self._sum += value
        self._max = max(self._max, value)
        if len(self._kept) < self._values_max:
            self._kept.append(value)
        elif (place := self._rng.randrange(self._count)) < self._values_max:
            self._kept[place] = value

    def spread(self, *, scale: float = 1.0) -> Spread | None:
        """Everything times `scale`; None when nothing was added."""
        if not self._count:
            return None
        values = sorted(self._kept)
        return Spread(
            mean=scale * self._sum / self._count,
            median=scale * percentile(values, 0.5),
            p90=scale * percentile(values, 0.9),
            p99=scale * percentile(values, 0.99),
            max=scale * self._max,
        )

    def percentiles(self, parts: int) -> list[float]:
        """`parts` + 1 values, smallest to largest, that cut what is kept into equal parts; empty without any."""
        values = sorted(self._kept)
        return [percentile(values, part / parts) for part in range(parts + 1)] if values else []


def percentile(values: Sequence[float], share: float) -> float:
    """Linear interpolation between closest ranks, as numpy does it. `values` sorted, not empty; `share` 0 to 1."""
    position = (len(values) - 1) * share
    low, high = math.floor(position), math.ceil(position)
    return values[low] + (values[high] - values[low]) * (position - low)
