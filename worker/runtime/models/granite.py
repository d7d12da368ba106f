"""Granite 3: Llama with scaled embeddings, residuals, scores and logits."""

from __future__ import annotations

from typing import Final

from worker.runtime.models.family import ModelFamily

__all__ = ["GRANITE"]

GRANITE: Final = ModelFamily(
    name="granite",
    model_types=frozenset({"granite"}),
    architectures=frozenset({"GraniteForCausalLM"}),
)
