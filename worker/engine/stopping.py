"""Is this sequence finished, and why? Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from worker.engine.sequence import FinishReason, Sequence

__all__ = ["Finish", "banned_ids", "finish"]

_NOTHING: Final[frozenset[int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Finish:
    """Why a sequence ended by itself."""

    reason: FinishReason
    stop_token_id: int | None = None
    """The token that ended it; None for LENGTH, and when the grammar is complete."""


def banned_ids(sequence: Sequence) -> frozenset[int]:
    """Ids that must not be drawn as the next token: those that would end the sequence before `min_tokens`.

    The sampler masks them; a completion thus has at least `min_tokens` tokens before one that ends it.
    """
    stop = sequence.stop
    if len(sequence.generated_ids) >= stop.min_tokens:
        return _NOTHING
    return stop.eos_ids | stop.stop_ids


def finish(sequence: Sequence, *, is_complete: bool = False) -> Finish | None:
    """Whether the last token of `generated_ids` (at least one) ended the sequence. STOP wins over LENGTH.

    `is_complete`: nothing may follow it under the grammar of the sequence.
    """
    stop = sequence.stop
    token_id = sequence.generated_ids[-1]
    num_before = len(sequence.generated_ids) - 1
    if num_before >= stop.min_tokens and (token_id in stop.eos_ids or token_id in stop.stop_ids):
        return Finish(FinishReason.STOP, token_id)
    if is_complete:
        return Finish(FinishReason.STOP)
    if num_before + 1 >= stop.max_tokens:
        return Finish(FinishReason.LENGTH)
    return None
