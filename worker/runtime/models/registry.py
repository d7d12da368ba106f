"""The list of families. A new one is a file beside this and a line here."""

from __future__ import annotations

from typing import Final

from common.errors import BadModel, Reason
from worker.runtime.models.family import ModelFamily
from worker.runtime.models.gemma2 import GEMMA2
from worker.runtime.models.gemma3 import GEMMA3
from worker.runtime.models.granite import GRANITE
from worker.runtime.models.llama import LLAMA
from worker.runtime.models.mistral import MISTRAL
from worker.runtime.models.optimum import OPTIMUM
from worker.runtime.models.phi3 import PHI3
from worker.runtime.models.qwen2 import QWEN2
from worker.runtime.models.qwen3 import QWEN3
from worker.runtime.models.smollm3 import SMOLLM3

__all__ = ["FAMILIES", "family_of"]

FAMILIES: Final[tuple[ModelFamily, ...]] = (
    LLAMA,
    QWEN2,
    QWEN3,
    MISTRAL,
    PHI3,
    GEMMA2,
    GEMMA3,
    SMOLLM3,
    GRANITE,
    OPTIMUM,
)


def family_of(model_type: str) -> ModelFamily:
    """The family of a `model.type`; raises `BadModel(MODEL_GRAPH_UNSUPPORTED)` for one we do not know."""
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    known = ", ".join(sorted(name for family in FAMILIES for name in family.model_types))
    raise BadModel(
        f"genai_config.json: model.type {model_type!r} is not an architecture we know ({known})",
        reason=Reason.MODEL_GRAPH_UNSUPPORTED,
    )
