"""How fast this engine is: measured step by step, forgotten step by step.

    length of a step = decode_s(decoding) + prompt tokens / prefill_tokens_per_s + tokens of drafts · draft_s

Steps that only decode teach the first term (`worker.engine.decode_cost`); what a mixed step took beyond it teaches
the second, and what a step with drafts took beyond it the third. Where the first is not known yet the second comes
out too slow, which errs towards smaller chunks and corrects itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from worker.engine.decode_cost import DecodeCost, Decoding

__all__ = ["Speed", "SpeedMeter"]

_DURATION_S_MIN: Final = 1e-6
_KEPT: Final = 0.9
"""Share of the past that stays when a new step is added to a rate."""
_WEIGHT: Final = 0.3
"""Share of the newest step in a mean length."""
_DRAFT_PRICE_FIRST: Final = 0.3
"""Of a token of a draft, in steps that only decode, before it is measured."""
_DRAFT_PRICE_MIN: Final = 0.02
"""Less is an error of measurement."""
_PREFILL_SHARE_MIN: Final = 0.1
"""Least share of a mixed step that is put down to its prompt tokens, however long decoding used to take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What outsiders may know; None until measured."""

    prefill_tokens_per_s: float | None = None
    starts_per_s: float | None = None
    """Sequences that got a slot, per second of work."""
    step_s: float | None = None
    """Mean length of recent steps, of whatever kind."""
    decode_tokens_per_s: float | None = None
    """How fast one sequence gets its tokens from steps that only decode, beside as many others as lately; without what
    drafts add."""
    decode_rows: int = 0
    """How many sequences those steps had."""


class SpeedMeter:
    """Fed with the measured length of every step; engine thread only. No clock inside: deterministic."""

    def __init__(self) -> None:
        self._prefill = _Rate()
        self._starts = _Rate()
        self._step_s: float | None = None
        self._decode_rows = 0
        """Of the last step that only decoded."""
        self._decode = DecodeCost()
        self._draft_s: float | None = None
        """What a token of a draft adds."""

    def observe(
        self,
        *,
        duration_s: float,
        num_prefill_tokens: int,
        decoding: Decoding,
        num_starts: int,
        num_drafted: int = 0,
    ) -> None:
        """Learns from one step, which has prompt tokens or drafts or neither. One below `_DURATION_S_MIN` (a clock that
        stands still) teaches nothing.
        """
        if duration_s < _DURATION_S_MIN:
            return
        self._starts.add(num_starts, duration_s)
        self._step_s = _mean(self._step_s, duration_s)
        if num_prefill_tokens:
            self._prefill.add(num_prefill_tokens, self.prefill_share_s(duration_s, decoding))
        elif num_drafted:
            decode_s = self.decode_s(decoding)
            # A whole step for one token is a step that was held up by something else.
            added_s = min(max(0.0, duration_s - decode_s) / num_drafted, decode_s)
            if decode_s:
                self._draft_s = _mean(self._draft_s, added_s)
        else:
            self._decode_rows = decoding.rows
            self._decode.observe(decoding, duration_s)

    @property
    def speed(self) -> Speed:
        decode_s = self._decode.mean_s(self._decode_rows)
        return Speed(
            prefill_tokens_per_s=self._prefill.per_s,
            starts_per_s=self._starts.per_s or None,
            step_s=self._step_s,
            decode_tokens_per_s=1.0 / decode_s if decode_s else None,
            decode_rows=self._decode_rows,
        )

    def decode_s(self, decoding: Decoding) -> float:
        """Expected seconds of a step that decodes so much; 0 when nothing like it was measured."""
        return self._decode.seconds(decoding)

    def draft_price(self, decoding: Decoding) -> float:
        """What a token of a draft adds to a step that decodes so much, in such steps without drafts."""
        decode_s = self.decode_s(decoding)
        if self._draft_s is None or not decode_s:
            return _DRAFT_PRICE_FIRST
        return max(self._draft_s / decode_s, _DRAFT_PRICE_MIN)

    def drafts_within(self, step_s: float, decoding: Decoding) -> int | None:
        """Tokens of drafts that fit beside so much into a step of `step_s` seconds; None when not measured."""
        decode_s = self.decode_s(decoding)
        if not decode_s:
            return None
        return int(max(0.0, step_s - decode_s) / (decode_s * self.draft_price(decoding)))

    def step_s(
        self, *, num_prefill_tokens: int, decoding: Decoding, num_drafted: int = 0
    ) -> float | None:
        """Expected seconds of a step; None when nothing like it has been measured."""
        if num_prefill_tokens and self._prefill.per_s is None:
            return None
        if decoding.rows and not self._decode.is_measured:
            return None
        prefill_s = num_prefill_tokens / self._prefill.per_s if self._prefill.per_s else 0.0
        decode_s = self.decode_s(decoding)
        return decode_s * (1 + num_drafted * self.draft_price(decoding)) + prefill_s

    def prefill_share_s(self, duration_s: float, decoding: Decoding) -> float:
        """What of the length of a mixed step is put down to its prompt tokens."""
        return max(duration_s - self.decode_s(decoding), _PREFILL_SHARE_MIN * duration_s)


def _mean(mean_s: float | None, newest_s: float) -> float:
    return newest_s if mean_s is None else mean_s + _WEIGHT * (newest_s - mean_s)


class _Rate:
    """Amount per second over the recent past; long steps weigh more than short ones."""

    def __init__(self) -> None:
        self._amount = 0.0
        self._seconds = 0.0

    def add(self, amount: float, seconds: float) -> None:
        self._amount = _KEPT * self._amount + amount
        self._seconds = _KEPT * self._seconds + seconds

    @property
    def per_s(self) -> float | None:
        return self._amount / self._seconds if self._seconds else None
