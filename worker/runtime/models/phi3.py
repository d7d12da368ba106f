"""Phi-3 and Phi-4-mini: one matrix for query, key and value, one for gate and up."""

from __future__ import annotations

from typing import Final

from worker.runtime.models.family import ModelFamily

__all__ = ["PHI3"]

PHI3: Final = ModelFamily(
    name="phi3",
    model_types=frozenset({"phi3"}),
    architectures=frozenset({"Phi3ForCausalLM"}),
    keeps_window=False,
)
