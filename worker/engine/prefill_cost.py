"""What the tokens of a prompt cost, by where they stand: attention looks back over all that is before it.

    position      0 … 255 │ 256 … 511 │ 512 … 1023 │ 1024 … 2047 │ …        bands: each as long as all before it
    s per token     0.3       0.3          0.4          (0.8)                measured; (as far as it can be)

The cost of a token is at most proportional to its position, so a band that was never measured costs, for each band
below it down to one that was, at most twice as much; no more than any band above it. A step that took longer than
expected is believed sooner than one that was faster: who waits for the next token suffers from the first kind alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

__all__ = ["PrefillCost"]

_FIRST_BAND: Final = 256
"""Positions below it cost about the same: products with weights are most of it."""
_SLOWER_WEIGHT: Final = 0.5
"""Share of the newest step in the cost of its tokens when it took longer than expected."""
_FASTER_WEIGHT: Final = 0.2
"""The same when it did not."""


class PrefillCost:
    """Fed with measured chunks, asked for expected ones. No clock inside: deterministic."""

    def __init__(self) -> None:
        self._token_s: dict[int, float] = {}
        """Band → seconds per token; one entry for each doubling of the longest prompt."""

    @property
    def is_measured(self) -> bool:
        return bool(self._token_s)

    def observe(self, spans: Iterable[tuple[int, int]], duration_s: float) -> None:
        """Learns that positions [start, end) of some prompts, at least one in all, took so long together."""
        tokens: dict[int, int] = {}
        for span in spans:
            for band, count in _by_band(*span):
                tokens[band] = tokens.get(band, 0) + count
        if not self._token_s:
            self._token_s = dict.fromkeys(tokens, duration_s / sum(tokens.values()))
            return
        expected = {band: self._expected(band) for band in tokens}
        ratio = duration_s / sum(count * expected[band] for band, count in tokens.items())
        weight = _SLOWER_WEIGHT if ratio > 1 else _FASTER_WEIGHT
        for band, token_s in expected.items():
            share = weight if band in self._token_s else 1.0
            self._token_s[band] = token_s * (1 + share * (ratio - 1))

    def seconds(self, start: int, end: int) -> float:
        """Expected for positions [start, end). Only once `is_measured`."""
        return sum(count * self._expected(band) for band, count in _by_band(start, end))

    def tokens(self, start: int, seconds: float, most: int) -> int:
        """How many from `start` on fit into so many seconds, at most `most`. Only once `is_measured`."""
        fits = 0
        for band, count in _by_band(start, start + most):
            token_s = self._expected(band)
            if count * token_s > seconds:
                return fits + int(max(0.0, seconds) / token_s)
            fits += count
            seconds -= count * token_s
        return fits

    def _expected(self, band: int) -> float:
        """Seconds per token, as measured or bounded by the nearest bands that were."""
        known = self._token_s.get(band)
        if known is not None:
            return known
        below = max((other for other in self._token_s if other < band), default=None)
        above = min((other for other in self._token_s if other > band), default=None)
        bounds = []
        if below is not None:
            bounds.append(self._token_s[below] * 2.0 ** (band - below))
        if above is not None:
            bounds.append(self._token_s[above])
        return min(bounds)


def _by_band(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Bands of the positions [start, end), upwards, and how many are in each."""
    while start < end:
        band = (start // _FIRST_BAND).bit_length()
        stop = min(end, _FIRST_BAND << band)
        yield band, stop - start
        start = stop
