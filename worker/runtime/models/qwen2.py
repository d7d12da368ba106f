"""Qwen2 and Qwen2.5: Llama's shape with biases on query, key and value, often with tied embeddings."""

from __future__ import annotations

from typing import Final

from worker.runtime.models.family import ModelFamily

__all__ = ["QWEN2"]

QWEN2: Final = ModelFamily(
    name="qwen2",
    model_types=frozenset({"qwen2"}),
    architectures=frozenset({"Qwen2ForCausalLM"}),
)
