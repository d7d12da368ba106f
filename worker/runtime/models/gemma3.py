"""Gemma 3's text models: Gemma 2 with normalised queries and keys instead of soft caps, and a rotation for each kind of
layer.
"""

from __future__ import annotations

from typing import Final

from worker.runtime.models.family import ModelFamily

__all__ = ["GEMMA3"]

GEMMA3: Final = ModelFamily(
    name="gemma3",
    model_types=frozenset({"gemma3_text"}),
    architectures=frozenset({"Gemma3ForCausalLM"}),
)
