"""Decoders as Optimum exports them, whatever their architecture: the graph appends to its past and returns the whole.

What the model does between `input_ids` and `logits` is in the graph alone, so there is nothing else to know.
"""

from __future__ import annotations

from typing import Final

from worker.runtime.models.family import CacheRule, GraphNames, ModelFamily

__all__ = ["OPTIMUM"]

OPTIMUM: Final = ModelFamily(
    name="optimum",
    model_types=frozenset({"optimum"}),
    architectures=frozenset(),
    names=GraphNames(position_ids="position_ids"),
    cache=CacheRule.GROWING,
)
