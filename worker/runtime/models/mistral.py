"""Mistral. The builder drops the sliding window of its first version, which `lepton convert` makes up for by a shorter
context.
"""

from __future__ import annotations

from typing import Final

from worker.runtime.models.family import ModelFamily

__all__ = ["MISTRAL"]

MISTRAL: Final = ModelFamily(
    name="mistral",
    model_types=frozenset({"mistral"}),
    architectures=frozenset({"MistralForCausalLM"}),
    keeps_window=False,
)
