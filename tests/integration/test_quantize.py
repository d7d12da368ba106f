"""`lepton quantize` from end to end, on tiny fp32 folders that the real builder made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import BadModel, Conflict, Reason
from convert.precision import Precision, Storage
from convert.quantize import QuantizeRequest, quantize
from convert.result import Result
from tests.support.tiny_models import TINY_LLAMA, TINY_LLAMA_INT4, copy_model
from worker.runtime.model import load_model


def _quantize(source: Path, out: Path, storage: Storage) -> Result:
    return quantize(QuantizeRequest(source=source, out=out, storage=storage, made_by="lepton test"))


def test_an_fp32_folder_becomes_a_smaller_one_that_a_worker_serves(tmp_path: Path) -> None:
    result = _quantize(TINY_LLAMA, tmp_path / "int4", Storage.of(Precision.INT4, 32))
    loaded = load_model(
        result.folder, name="m", threads=1, rows_max=2, mode="exact", prefill_int8=True
    )
    assert loaded.info.revision == result.revision
    assert "/int4-block32" in loaded.info.fingerprint
    assert result.weight_bytes < result.source_bytes / 3
    assert result.accuracy is not None
    assert 0 < result.accuracy["stored"]["rms_error"] < 0.8
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert (manifest["algorithm"], manifest["accuracy"]) == ("default", result.accuracy)
    assert [path.name for path in tmp_path.iterdir()] == ["int4"]


def _rounded_already(tmp_path: Path) -> Path:
    return TINY_LLAMA_INT4


def _no_tokenizer(tmp_path: Path) -> Path:
    folder = copy_model(TINY_LLAMA, tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    return folder


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (_rounded_already, "int4-block32 already; quantise the fp32 folder"),
        (_no_tokenizer, "tokenizer.json: not found"),
        (lambda p: p / "none", "no such model folder"),
    ],
)
def test_a_source_that_cannot_be_quantised_is_refused(
    source: object, words: str, tmp_path: Path
) -> None:
    assert callable(source)
    with pytest.raises(BadModel, match=words):
        _quantize(source(tmp_path), tmp_path / "out", Storage.of(Precision.INT4))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    with pytest.raises(Conflict) as caught:
        _quantize(TINY_LLAMA, tmp_path / "out", Storage.of(Precision.INT4))
    assert caught.value.reason is Reason.OUTPUT_EXISTS
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
