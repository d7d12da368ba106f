"""Which Hugging Face folders are accepted, and what the others are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import BadModel, Reason
from tests.support.conversions import hf_folder, safetensors
from worker.conversion.source import read_source
from worker.runtime.models.registry import FAMILIES

A, B = {"a": [3, 4]}, {"b": [5]}


def test_a_folder_says_what_it_is(tmp_path: Path) -> None:
    source = read_source(hf_folder(tmp_path / "my-model"))
    assert source.name == "my-model"
    assert source.family == "llama"
    assert source.num_parameters == 300 * 64 + 64
    assert source.weight_bytes == (tmp_path / "my-model" / "model.safetensors").stat().st_size
    assert source.license is None


def test_every_family_that_is_served_is_accepted(tmp_path: Path) -> None:
    for family in FAMILIES:
        for model_type in family.model_types:
            for architecture in family.architectures:
                folder = hf_folder(
                    tmp_path / architecture,
                    {"model_type": model_type, "architectures": [architecture]},
                )
                assert read_source(folder).family == family.name


def test_shards_count_together(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    safetensors(folder / "one.safetensors", A)
    safetensors(folder / "two.safetensors", B)
    _write_index(folder, {"a": "one.safetensors", "b": "two.safetensors"})
    assert read_source(folder).num_parameters == 17


@pytest.mark.parametrize(
    ("card", "config", "expected"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# Model\n", {}, "apache-2.0"),
        ("# Model\nlicense: mit\n", {}, None),
        ("", {"license": "mit"}, "mit"),
        ("", {"license": "a\n---\nb"}, None),
    ],
)
def test_the_licence_is_what_the_card_or_the_configuration_names(
    card: str, config: dict[str, str], expected: str | None, tmp_path: Path
) -> None:
    folder = hf_folder(tmp_path / "m", config)
    (folder / "README.md").write_text(card)
    assert read_source(folder).license == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "sliding_window": 2047},
            2047,
        ),
        (
            {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "sliding_window": None},
            None,
        ),
        ({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "sliding_window": 8}, None),
    ],
)
def test_a_window_that_the_export_loses_bounds_the_context(
    config: dict[str, object], expected: int | None, tmp_path: Path
) -> None:
    assert read_source(hf_folder(tmp_path / "m", config)).context_max == expected


def _write_index(folder: Path, places: dict[str, str]) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _lost_shard(folder: Path) -> None:
    _no_weights(folder)
    _write_index(folder, {"a": "gone.safetensors"})


def _shard_elsewhere(folder: Path) -> None:
    _no_weights(folder)
    _write_index(folder, {"a": "../other.safetensors"})


def _cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def _header_bomb(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + b"{}")


def _header_of_nonsense(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((8).to_bytes(8, "little") + b'{"a": 1}')


def _served_folder(folder: Path) -> None:
    (folder / "config.json").rename(folder / "genai_config.json")


@pytest.mark.parametrize(
    ("break_it", "reason", "words"),
    [
        (
            lambda f: (f / "config.json").unlink(),
            Reason.MODEL_FILE_MISSING,
            "config.json: not found",
        ),
        (_served_folder, Reason.MODEL_FILE_MISSING, "served model already"),
        (lambda f: (f / "config.json").write_text("{"), Reason.MODEL_FILE_INVALID, "not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), Reason.MODEL_FILE_INVALID, "JSON object"),
        (lambda f: (f / "tokenizer.json").unlink(), Reason.MODEL_FILE_MISSING, "tokenizer.json"),
        (
            lambda f: (f / "tokenizer.json").rename(f / "tokenizer.model"),
            Reason.MODEL_FILE_MISSING,
            "save_pretrained",
        ),
        (
            lambda f: (f / "tokenizer.json").write_text("{}"),
            Reason.MODEL_TOKENIZER_INVALID,
            "tokenizer.json: cannot be read",
        ),
        (_no_weights, Reason.MODEL_FILE_MISSING, "model.safetensors: not found"),
        (_pickled, Reason.MODEL_FILE_MISSING, "save them as safetensors"),
        (_lost_shard, Reason.MODEL_FILE_MISSING, "gone.safetensors: not found"),
        (_shard_elsewhere, Reason.MODEL_FILE_INVALID, "plain name"),
        (_cut, Reason.MODEL_FILE_INVALID, "is cut off"),
        (_header_bomb, Reason.MODEL_FILE_INVALID, "is cut off"),
        (_header_of_nonsense, Reason.MODEL_FILE_INVALID, "no safetensors file"),
    ],
)
def test_a_folder_that_cannot_be_converted_is_refused_by_the_file_at_fault(
    break_it: Callable[[Path], object], reason: Reason, words: str, tmp_path: Path
) -> None:
    folder = hf_folder(tmp_path / "m")
    read_source(folder)  # it is the change that counts
    break_it(folder)
    with pytest.raises(BadModel) as caught:
        read_source(folder)
    assert caught.value.reason is reason
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "mamba", "architectures": ["MambaForCausalLM"]}, "MambaForCausalLM"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised already"),
        (
            {"intermediate_size": 768, "vocab_size": 768},
            "intermediate_size is as large as vocab_size",
        ),
        ({"intermediate_size": 384, "vocab_size": 768}, "gate and up"),
    ],
)
def test_an_architecture_that_is_not_served_is_refused_with_those_that_are(
    config: dict[str, object], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(BadModel, match=reason) as caught:
        read_source(hf_folder(tmp_path / "m", config))
    assert caught.value.reason is Reason.MODEL_ARCHITECTURE_UNSUPPORTED
    if "architectures" in config:
        assert "Qwen3ForCausalLM" in caught.value.message


@pytest.mark.parametrize("architectures", [None, [], "LlamaForCausalLM"])
def test_a_configuration_without_architectures_is_invalid(
    architectures: object, tmp_path: Path
) -> None:
    with pytest.raises(BadModel) as caught:
        read_source(hf_folder(tmp_path / "m", {"architectures": architectures}))
    assert caught.value.reason is Reason.MODEL_FILE_INVALID


def test_a_file_and_nothing_at_all_are_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, words in ((tmp_path / "file", "is not a folder"), (tmp_path / "none", "no such")):
        with pytest.raises(BadModel, match=words) as caught:
            read_source(path)
        assert caught.value.reason is Reason.MODEL_FILE_MISSING
