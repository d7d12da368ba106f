"""Mistral from version 0.2 on, without a sliding window (the builder drops the window of the first version)."""

from __future__ import annotations

from typing import Final

from worker.runtime.models.family import ModelFamily

__all__ = ["MISTRAL"]

MISTRAL: Final = ModelFamily(
    name="mistral",
    model_types=frozenset({"mistral"}),
    architectures=frozenset({"MistralForCausalLM"}),
)
