"""How many proposed tokens a sequence should have verified: as many as pay. Pure, so the same history decides the same.

A token at place j of a draft stands with the chance p^j, p as seen lately in this sequence, and costs what one more
position in the step costs (`SpeedMeter.draft_price`). It pays while

    p^j · (what a token is worth: the step / its rows)  >  cost,        that is   p^j > price

When not even the first one pays, the sequence rests: after 8 tokens it begins anew, then after 16, … up to 256, so that
a text that never repeats costs next to nothing, and one that begins to is found. Who begins tries one token whatever
its price: a price that was measured in a bad moment would never be measured again.
"""

from __future__ import annotations

from typing import Final, final

__all__ = ["Payoff"]

_HITS: Final = 2.0
_MISSES: Final = 1.0
"""Of a newcomer: two of three stand."""
_KEPT: Final = 0.85
"""Share of the past that stays when a new draft is counted."""
_REST_MIN: Final = 8
_REST_MAX: Final = 256
"""Tokens."""


@final
class Payoff:
    """Of one sequence. Places in it are numbers of tokens generated so far."""

    def __init__(self) -> None:
        self._hits, self._misses = _HITS, _MISSES
        self._rest = _REST_MIN
        """How long it rests the next time."""
        self._awake_at = 0
        self._is_new = True
        """Nothing has been tried since it began."""

    def __repr__(self) -> str:
        return f"<Payoff {self.chance:.2f}, rests {self._rest}>"

    @property
    def chance(self) -> float:
        """That a proposed token stands when those before it did."""
        return self._hits / (self._hits + self._misses)

    def size(self, at: int, *, price: float, most: int) -> int:
        """Tokens to propose at place `at`: as many as pay, up to `most`; 0 while it rests.

        `price`: what one more position costs, in what a token of a step without drafts costs.
        """
        if at < self._awake_at:
            return 0
        size, stands = 0, self.chance
        while size < most and stands > price:
            size += 1
            stands *= self.chance
        if size or not most:
            return size
        if self._is_new:
            return 1
        self._awake_at, self._rest = at + self._rest, min(2 * self._rest, _REST_MAX)
        self._hits, self._misses, self._is_new = _HITS, _MISSES, True
        return 0

    def learn(self, *, num_proposed: int, num_accepted: int) -> None:
        """What became of a draft. Tokens behind the first that did not stand say nothing."""
        is_whole = num_accepted == num_proposed
        self._is_new = False
        self._hits = _KEPT * self._hits + num_accepted
        self._misses = _KEPT * self._misses + (not is_whole)
        if is_whole:
            self._rest = _REST_MIN
