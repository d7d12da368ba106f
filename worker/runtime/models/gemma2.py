"""Gemma 2: soft caps on scores and logits, norms before and after each part, windows in every second layer."""

from __future__ import annotations

from typing import Final

from worker.runtime.models.family import ModelFamily

__all__ = ["GEMMA2"]

GEMMA2: Final = ModelFamily(
    name="gemma2",
    model_types=frozenset({"gemma2"}),
    architectures=frozenset({"Gemma2ForCausalLM"}),
)
