"""How tokens are drawn: valid by construction, resolved (nothing is 'unset' any more)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["SamplingParams"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Made by `worker.transport.convert` from a validated request; ranges as in `lepton.v1.SamplingParams`."""

    temperature: float = 0.0
    """0 picks the most likely token."""
    top_p: float = 1.0
    """1 is off."""
    top_k: int = 0
    """0 is off."""
    min_p: float = 0.0
    """0 is off."""
    repetition_penalty: float = 1.0
    """1 is off. Counts prompt and completion."""
    frequency_penalty: float = 0.0
    """0 is off. Counts the completion only, as does the next."""
    presence_penalty: float = 0.0
    """0 is off."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Token id → bias; ids are below the vocabulary size."""
    seed: int = 0
    """With choice index and position it decides every draw: u = Philox(seed, choice, position)."""
    logprobs: int | None = None
    """How many most likely tokens to report per position; 0 reports the chosen one only; None nothing."""

    @property
    def is_plain_greedy(self) -> bool:
        """Whether the arg-max of the raw logits is the answer."""
        return (
            self.temperature == 0.0
            and self.repetition_penalty == 1.0
            and self.frequency_penalty == 0.0
            and self.presence_penalty == 0.0
            and not self.logit_bias
            and self.logprobs is None
        )
