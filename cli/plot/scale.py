"""Values → places along an axis, and the round numbers that are written beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Scale", "label_of", "linear", "logarithmic", "round_steps"]


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis from `low` to `high`, drawn from pixel `start` to pixel `end`."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    is_log: bool = False

    def at(self, value: float) -> float:
        """Its pixel. What lies beyond the axis is drawn at its end."""
        value = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.is_log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)


def linear(values: Iterable[float], start: float, end: float, *, from_zero: bool = True) -> Scale:
    """An axis with round steps that holds all values, and zero unless told otherwise."""
    found = [value for value in values if math.isfinite(value)] or [0.0]
    low = min(0.0, *found) if from_zero else min(found)
    high = max(*found, low) if len(found) > 1 else max(found[0], low)
    ticks = round_steps(low, high if high > low else low + 1.0)
    return Scale(ticks[0], ticks[-1], start, end, ticks)


def logarithmic(
    values: Iterable[float], start: float, end: float, ticks: Sequence[float] = ()
) -> Scale:
    """A logarithmic axis over the positive values; ticks are powers of ten where none are given."""
    found = [value for value in (*values, *ticks) if value > 0 and math.isfinite(value)] or [1.0]
    low, high = min(found), max(found)
    if not ticks:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [10.0**power for power in powers]
        low, high = min(ticks), max(ticks)
    return Scale(low, high if high > low else 2 * low, start, end, tuple(ticks), is_log=True)


def round_steps(low: float, high: float, *, wanted: int = 5) -> tuple[float, ...]:
    """Multiples of 1, 2 or 5 times a power of ten from `low` or below to `high` or above, about `wanted` of them."""
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(round(number * step, 12) for number in range(first, max(last, first + 1) + 1))


def label_of(value: float) -> str:
    """A tick as text: 0.5, 20, 1,500, 2M."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"
