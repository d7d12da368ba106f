"""What a step takes that only decodes: by how many rows there are, and how many tokens they look back on.

    seconds(rows, tokens) = mean seconds with that many rows + token_s · (tokens − mean tokens with that many rows)

The mean follows the last few steps of its number of rows. `token_s`, the price of one more token to look back on, is
the slope of all steps lately, as far as their tokens differ at all (ridge regression): rows grow by a token a step,
so it takes hundreds of them to stand out of the noise, and sets of other rows to be clear. Without it a step that has
not been seen for a while, because a prompt was computed beside the rows, would be expected to take what it took with
shorter, or with other rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, final

from worker.engine.sequence import Sequence

__all__ = ["DecodeCost", "Decoding"]

_WEIGHT: Final = 0.3
"""Share of the newest step in a mean."""
_SLOW_WEIGHT: Final = 0.02
"""The same in the means from which deviations are taken: rows that grow must have time to deviate."""
_KEPT: Final = 0.995
"""Share of earlier deviations that stays when one is added."""
_RIDGE: Final = 1e-3
"""Share of the squared tokens by which deviations must exceed nothing before they are believed."""
_DEVIATION_MAX: Final = 0.5
"""A step that took longer than that beyond the mean, as a share of it, was held up by something else."""
_LEAST: Final = 0.1
"""Of the mean: what a step takes whose rows look back on nothing."""


class Decoding(NamedTuple):
    """What a step decodes."""

    rows: int
    tokens: int = 0
    """Of all rows together, that they look back on."""

    @classmethod
    def of(cls, decode: Iterable[Sequence]) -> Decoding:
        lengths = [sequence.num_tokens for sequence in decode]
        return cls(len(lengths), sum(lengths))


@dataclass(slots=True)
class _Mean:
    """Of the steps with one number of rows."""

    seconds: float
    tokens: float

    def add(self, seconds: float, tokens: float, weight: float) -> None:
        self.seconds += weight * (seconds - self.seconds)
        self.tokens += weight * (tokens - self.tokens)


@final
class DecodeCost:
    """Fed with measured steps, asked for expected ones. No clock inside: deterministic."""

    def __init__(self) -> None:
        self._recent: dict[int, _Mean] = {}
        """Rows → mean; at most one entry per slot."""
        self._slow: dict[int, _Mean] = {}
        self._covariance = self._variance = self._squares = 0.0
        """Sums of deviations of tokens, with those of seconds and with themselves, and of squared tokens."""

    @property
    def is_measured(self) -> bool:
        return bool(self._recent)

    def observe(self, decoding: Decoding, duration_s: float) -> None:
        """Learns from one step."""
        rows, tokens = decoding
        if rows not in self._recent:
            self._recent[rows] = _Mean(duration_s, tokens)
            self._slow[rows] = _Mean(duration_s, tokens)
            return
        slow = self._slow[rows]
        held_up_s = _DEVIATION_MAX * slow.seconds
        more_s = min(max(duration_s - slow.seconds, -held_up_s), held_up_s)
        more_tokens = tokens - slow.tokens
        self._covariance = _KEPT * self._covariance + more_tokens * more_s
        self._variance = _KEPT * self._variance + more_tokens**2
        self._squares = _KEPT * self._squares + tokens**2
        self._recent[rows].add(duration_s, tokens, _WEIGHT)
        slow.add(slow.seconds + more_s, tokens, _SLOW_WEIGHT)

    def mean_s(self, rows: int) -> float | None:
        """Of recent steps with exactly that many rows; None when there were none."""
        mean = self._recent.get(rows)
        return None if mean is None else mean.seconds

    def seconds(self, decoding: Decoding) -> float:
        """Expected, by steps with the nearest number of rows; 0 without rows, and when nothing was measured."""
        if not decoding.rows or not self._recent:
            return 0.0
        nearest = min(self._recent, key=lambda known: (abs(known - decoding.rows), known))
        mean = self._recent[nearest]
        token_s = self._token_s
        if mean.tokens:  # at most all of it is for looking back
            token_s = min(token_s, mean.seconds / mean.tokens)
        expected_s = mean.seconds + token_s * (decoding.tokens - mean.tokens)
        return max(expected_s, _LEAST * mean.seconds)

    @property
    def _token_s(self) -> float:
        spread = self._variance + _RIDGE * self._squares
        return max(0.0, self._covariance / spread) if spread else 0.0
