"""Llama and what has its shape (SmolLM2, the demo model): RMS norm, rotary positions, grouped heads, gated MLP."""

from __future__ import annotations

from typing import Final

from worker.runtime.models.family import ModelFamily

__all__ = ["LLAMA"]

LLAMA: Final = ModelFamily(
    name="llama",
    model_types=frozenset({"llama"}),
    architectures=frozenset({"LlamaForCausalLM"}),
)
