"""SmolLM3: Llama with some layers that do not rotate queries and keys."""

from __future__ import annotations

from typing import Final

from worker.runtime.models.family import ModelFamily

__all__ = ["SMOLLM3"]

SMOLLM3: Final = ModelFamily(
    name="smollm3",
    model_types=frozenset({"smollm3"}),
    architectures=frozenset({"SmolLM3ForCausalLM"}),
)
