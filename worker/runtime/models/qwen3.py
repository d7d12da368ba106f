"""Qwen3: queries and keys are normalised per head before their rotary positions."""

from __future__ import annotations

from typing import Final

from worker.runtime.models.family import ModelFamily

__all__ = ["QWEN3"]

QWEN3: Final = ModelFamily(
    name="qwen3",
    model_types=frozenset({"qwen3"}),
    architectures=frozenset({"Qwen3ForCausalLM"}),
)
