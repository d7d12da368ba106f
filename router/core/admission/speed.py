"""How fast places come free, learned from calls that ended.

By Little's law a full model with `rows` places completes `rows / (time that a place is held)` calls per second. So
one ratio, tokens of the estimate per second and place, predicts the drain of any number of places, follows at once
when workers come or go, and needs no estimate to be right: only to be wrong by about the same factor each time.
"""

from __future__ import annotations

from typing import Final, final

__all__ = ["Speed"]

_MEMORY: Final = 32
"""About so many calls that ended last count."""
_MARGIN: Final = 3.0
"""Mean deviations added to an expected service time, so that few of those who wait to their last moment come late."""


@final
class Speed:
    """Decayed sums over completed calls. Nothing is known before the first."""

    def __init__(self) -> None:
        self._calls = 0.0
        self._tokens = 0.0
        self._row_s = 0.0
        self._held_s = 0.0
        self._deviation_s = 0.0

    def __repr__(self) -> str:
        return f"Speed({self.tokens_per_row_s or 0:.0f} tokens per row and second)"

    @property
    def tokens_per_row_s(self) -> float | None:
        """Estimated tokens that one row works off per second; None while unknown."""
        return self._tokens / self._row_s if self._row_s > 0 else None

    @property
    def tokens_mean(self) -> float:
        """Of a call; 0 while unknown."""
        return self._tokens / self._calls if self._calls else 0.0

    @property
    def held_s_mean(self) -> float:
        """How long a call holds its rows, seconds; 0 while unknown."""
        return self._held_s / self._calls if self._calls else 0.0

    def completed(self, *, tokens: int, rows: int, held_s: float) -> None:
        """A call of `tokens` held `rows` rows for `held_s` seconds and ended well."""
        if self._calls:
            self._deviation_s += (
                abs(held_s - self._expected_s(tokens, rows)) - self._deviation_s
            ) / _MEMORY
        keep = 1.0 - 1.0 / _MEMORY
        self._calls = self._calls * keep + 1.0
        self._tokens = self._tokens * keep + tokens
        self._row_s = self._row_s * keep + held_s * rows
        self._held_s = self._held_s * keep + held_s

    def service_s(self, *, tokens: int, rows: int) -> float:
        """How long such a call will probably hold its rows at most, seconds; 0 while nothing is known."""
        return self._expected_s(tokens, rows) + _MARGIN * self._deviation_s if self._calls else 0.0

    def _expected_s(self, tokens: int, rows: int) -> float:
        """What its size suggests, but not more than the mean: a large `max_tokens` is rarely used up."""
        mean_s = self.held_s_mean
        per_row_s = self.tokens_per_row_s
        return mean_s if per_row_s is None else min(mean_s, tokens / rows / per_row_s)
