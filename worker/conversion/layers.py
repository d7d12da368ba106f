"""Whether a source has all of its layers.

transformers fills what is missing with random numbers and only warns, so a folder that lost a layer would become a
model that loads, passes every check of its graph, and answers nonsense.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from common.errors import BadModel, Reason

__all__ = ["check_layers"]

_LAYER: Final = re.compile(r"(?:.*\.)?layers\.(\d+)\.(.+)")


def check_layers(tensors: Iterable[str], num_layers: object) -> None:
    """`tensors`: names in the weights; `num_layers`: as config.json has it, None when it does not say.

    Raises `BadModel(MODEL_FILE_INVALID)` when a layer is missing, is one too many, or lacks a tensor that others have.
    """
    if num_layers is None:
        return
    if not isinstance(num_layers, int) or num_layers < 1:
        raise _invalid(f"num_hidden_layers {num_layers!r} must be a whole number from 1")
    layers: defaultdict[int, set[str]] = defaultdict(set)
    for name in tensors:
        if found := _LAYER.fullmatch(name):
            layers[int(found[1])].add(found[2])
    if len(layers) != num_layers or max(layers) >= num_layers:
        raise _invalid(
            f"num_hidden_layers is {num_layers}, but the weights have {len(layers)} layers; "
            "is a file of them missing, or the configuration another model's?"
        )
    usual = set.union(*layers.values())
    for number in sorted(layers):
        if lacking := sorted(usual - layers[number]):
            raise _invalid(f"layer {number} of the weights lacks {lacking[0]}, which others have")


def _invalid(message: str) -> BadModel:
    return BadModel(f"config.json: {message}", reason=Reason.MODEL_FILE_INVALID)
