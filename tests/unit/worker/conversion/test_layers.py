"""A source that lost a layer is refused; transformers would make one up."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import BadModel, Reason
from tests.support.conversions import SHAPES, hf_folder, safetensors
from worker.conversion.layers import check_layers
from worker.conversion.source import read_source

WHOLE = ("model.layers.0.mlp.weight", "model.layers.0.norm", "model.layers.1.mlp.weight", "model.layers.1.norm",
         "model.embed_tokens.weight")  # fmt: skip


@pytest.mark.parametrize("num_layers", [2, None])
def test_a_whole_model_passes(num_layers: int | None) -> None:
    check_layers(WHOLE, num_layers)


@pytest.mark.parametrize(
    ("tensors", "num_layers", "message"),
    [
        (WHOLE, 3, "num_hidden_layers is 3, but the weights have 2 layers"),
        (WHOLE, 1, "num_hidden_layers is 1, but the weights have 2 layers"),
        ((), 1, "the weights have 0 layers"),
        ([name.replace("1", "7") for name in WHOLE], 2, "the weights have 2 layers"),
        (WHOLE[:3], 2, "layer 1 of the weights lacks norm"),
        (WHOLE, "2", "must be a whole number"),
        (WHOLE, 0, "must be a whole number"),
    ],
)
def test_what_is_missing_is_named(tensors: list[str], num_layers: object, message: str) -> None:
    with pytest.raises(BadModel, match=message) as refused:
        check_layers(tensors, num_layers)
    assert refused.value.reason is Reason.MODEL_FILE_INVALID


def test_a_folder_is_judged_by_its_layers(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "m", {"num_hidden_layers": 1})
    safetensors(folder / "model.safetensors", {**SHAPES, "model.layers.0.norm.weight": [64]})
    assert read_source(folder).num_parameters == 300 * 64 + 64 + 64
    safetensors(folder / "model.safetensors")
    with pytest.raises(BadModel, match="0 layers"):
        read_source(folder)
