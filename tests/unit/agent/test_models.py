"""Which models a cluster serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.models import ModelChoice, choose_models
from common.errors import BadModel, Conflict, Reason


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "tiny"
    made.mkdir()
    (made / "genai_config.json").write_text("{}")
    return made


def test_a_folder_gives_its_name(folder: Path) -> None:
    assert choose_models([str(folder)]) == (ModelChoice(name="tiny", folder=folder),)


def test_an_export_of_optimum_is_a_model_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        BadModel, match=r"genai_config\.json, nor config\.json and model\.onnx; `lepton convert"
    ):
        choose_models([str(tmp_path)])
    (tmp_path / "model.onnx").touch()
    assert choose_models([str(tmp_path)])[0].folder == tmp_path


def test_a_name_can_be_given(folder: Path) -> None:
    models = choose_models([f"org/a={folder}", f"b={folder}"])
    assert [model.name for model in models] == ["org/a", "b"]


def test_a_relative_folder_becomes_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert choose_models(["."]) == (ModelChoice(name="tiny", folder=folder),)


def test_two_models_of_one_name_are_refused(folder: Path) -> None:
    with pytest.raises(Conflict, match="two models are called 'tiny'"):
        choose_models([str(folder), str(folder)])


@pytest.mark.parametrize("name", ["", "a b", "-x", "ü"])
def test_a_name_that_requests_cannot_use_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(Conflict, match="model name"):
        choose_models([f"{name}={folder}"])


def test_what_people_name_instead_of_a_folder_gets_a_word_on_what_to_do(folder: Path) -> None:
    with pytest.raises(BadModel, match="name the folder it is in"):
        choose_models([str(folder / "genai_config.json")])
    with pytest.raises(BadModel, match="nothing is downloaded"):
        choose_models(["meta-llama/Llama-3.2-1B"])


@pytest.mark.parametrize("what", ["missing", "no_config"])
def test_a_folder_without_a_model_is_refused(tmp_path: Path, what: str) -> None:
    (tmp_path / "no_config").mkdir()
    with pytest.raises(BadModel) as refused:
        choose_models([str(tmp_path / what)])
    assert refused.value.reason is Reason.MODEL_FILE_MISSING
    assert str(tmp_path / what) in refused.value.message
