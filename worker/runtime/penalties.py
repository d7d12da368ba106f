"""Which tokens a sequence has seen, kept up to date token by token, and what that does to its logits.

For token t with logit x, n occurrences in the completion, and "seen" meaning prompt or completion:

    repetition  x → x / r  when x > 0, else x · r          for each seen t     (Keskar et al., CTRL, 2019, section 4.1)
    frequency   x → x − f · n                              for n > 0           (OpenAI API reference, completions)
    presence    x → x − p                                  for n > 0           (the same)
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import Sequence

__all__ = ["SeenTokens", "wants_counts"]

FIRST_ROOM: Final = 64

LOGIT_MAX: Final = np.finfo(np.float32).max / 4
"""Penalised logits stay within it, so that they are finite and remain so when the other penalties are taken off."""


def wants_counts(sampling: SamplingParams) -> bool:
    """Whether any penalty is on."""
    return (
        sampling.repetition_penalty != 1.0
        or sampling.frequency_penalty != 0.0
        or sampling.presence_penalty != 0.0
    )


class SeenTokens:
    """Distinct tokens of one sequence, and how often each occurs in its completion."""

    def __init__(self, sequence: Sequence) -> None:
        self._index: dict[int, int] = {}
        self._ids = np.empty(FIRST_ROOM, np.int64)
        self._counts = np.empty(FIRST_ROOM, np.float32)
        self._num_generated = 0
        for token_id in sequence.prompt_ids:
            self._see(token_id)

    def __repr__(self) -> str:
        return f"<SeenTokens {len(self._index)} distinct, {self._num_generated} generated>"

    def catch_up(self, sequence: Sequence) -> None:
        """Counts what was generated since the last call."""
        for token_id in sequence.generated_ids[self._num_generated :]:
            at = self._see(token_id)  # first: it may replace the array
            self._counts[at] += 1.0
        self._num_generated = len(sequence.generated_ids)

    def apply(self, logits: npt.NDArray[np.float32], sampling: SamplingParams) -> None:
        """Changes `logits` [vocab] in place."""
        ids, counts = self._ids[: len(self._index)], self._counts[: len(self._index)]
        seen = logits[ids]
        if sampling.repetition_penalty != 1.0:
            penalty = np.float32(sampling.repetition_penalty)
            with np.errstate(over="ignore"):  # a penalty near 0 makes any number too large
                seen = np.where(seen > 0, seen / penalty, seen * penalty)
            np.clip(seen, -LOGIT_MAX, LOGIT_MAX, out=seen)
        seen -= np.float32(sampling.frequency_penalty) * counts
        seen -= np.float32(sampling.presence_penalty) * (counts > 0)
        logits[ids] = seen

    def _see(self, token_id: int) -> int:
        """Where the token stands; takes it in when it is new."""
        at = self._index.get(token_id)
        if at is None:
            at = self._index[token_id] = len(self._index)
            if at == len(self._ids):
                self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
                self._counts = np.concatenate([self._counts, np.empty_like(self._counts)])
            self._ids[at] = token_id
            self._counts[at] = 0.0
        return at
