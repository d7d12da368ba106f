"""`lepton convert` from end to end: real worker processes, and a builder whose exports are those that are checked in.

The real builder needs PyTorch: where an environment with it is at hand, LEPTON_CONVERT_PYTHON names its interpreter.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common.errors import BadModel, Conflict, LeptonError, Reason, Unavailable
from convert.convert import ConvertRequest, convert
from convert.precision import Precision, Storage
from convert.settings import ConvertSettings
from tests.support.conversions import builder_python, hf_folder
from tests.support.processes import ROOT, until
from worker.kernels.library import isas_here
from worker.runtime.artifacts import read_artifact
from worker.runtime.model import load_model


def _request(
    tmp_path: Path, *, storage: Storage | None = None, source: str = "hf", **settings: Any
) -> ConvertRequest:
    return ConvertRequest(
        source=tmp_path / source,
        out=tmp_path / "out",
        storage=storage or Storage.of(Precision.INT4, 32),
        made_by="lepton test",
        settings=ConvertSettings(**settings),
    )


def _never(folder: Path, num_bytes: int) -> bool:
    raise AssertionError("nobody was to be asked")


def _left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_becomes_one_that_a_worker_serves(tmp_path: Path) -> None:
    source = hf_folder(tmp_path / "hf")
    (source / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    python = builder_python(tmp_path / "tools")
    result = convert(_request(tmp_path, python=python), _never)

    assert _left(tmp_path) == {"hf", "tools", "out"}
    loaded = load_model(result.folder, name="m", threads=1, rows_max=1)
    assert loaded.info.revision == result.revision
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert manifest["precision"] == "int4"
    assert manifest["packages"]["onnxruntime-genai"] == "9.9"
    assert set(manifest["files"]) == _left(result.folder) - {"manifest.json", "README.md"}
    assert manifest["accuracy"] == result.accuracy
    assert result.accuracy is not None
    assert set(result.accuracy) == {"stored", "int8"} | ({"native"} if isas_here() else set())
    assert 0 < result.accuracy["stored"]["rms_error"] < 1
    card = (result.folder / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n---\n")
    assert "lepton convert hf out --precision int4 --block-size 32" in card
    assert f"{result.accuracy['stored']['perplexity_ratio']:.4f}" in card


def test_a_window_that_the_export_loses_bounds_what_is_served(tmp_path: Path) -> None:
    phi3 = {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "sliding_window": 100}
    hf_folder(tmp_path / "hf", phi3)
    request = _request(
        tmp_path, python=builder_python(tmp_path / "tools"), storage=Storage.of(Precision.FP32)
    )
    result = convert(request, _never)
    assert read_artifact(result.folder).config.model.context_length == 100
    assert "100 tokens: the source looks back" in (result.folder / "README.md").read_text()


def test_a_changed_file_of_the_result_is_refused_by_workers(tmp_path: Path) -> None:
    hf_folder(tmp_path / "hf")
    request = _request(
        tmp_path, python=builder_python(tmp_path / "tools"), storage=Storage.of(Precision.FP32)
    )
    result = convert(request, _never)
    assert result.accuracy is None
    read_artifact(result.folder)
    with (result.folder / "model.onnx.data").open("r+b") as file:
        file.write(b"\x00\x01")
    with pytest.raises(BadModel, match=r"is not what manifest\.json says"):
        read_artifact(result.folder)


def test_the_builder_is_told_what_workers_need(tmp_path: Path) -> None:
    hf_folder(tmp_path / "hf")
    python = builder_python(tmp_path / "tools", fault="fails")
    with pytest.raises(Unavailable, match="ValueError: it cannot be exported") as caught:
        convert(_request(tmp_path, python=python), _never)
    assert caught.value.reason is Reason.PROCESS_FAILED
    log = tmp_path / "out.log"
    assert str(log) in caught.value.message
    text = log.read_text()
    assert "the builder speaks" in text
    assert "windowed_kv_cache=false block_size=32 accuracy_level=4" in text
    assert _left(tmp_path) == {"hf", "tools", "out.log"}


def test_a_builder_that_does_not_end_is_ended(tmp_path: Path) -> None:
    hf_folder(tmp_path / "hf")
    python = builder_python(tmp_path / "tools", fault="hangs")
    with pytest.raises(Unavailable, match=r"took longer than 2 s \(convert\.step_s_max\)"):
        convert(_request(tmp_path, python=python, step_s_max=2), _never)
    assert _left(tmp_path) == {"hf", "tools", "out.log"}


def test_a_result_that_a_worker_would_refuse_is_not_published(tmp_path: Path) -> None:
    hf_folder(tmp_path / "hf")
    python = builder_python(tmp_path / "tools", fault="broken graph")
    with pytest.raises(BadModel, match=r"model\.onnx"):
        convert(_request(tmp_path, python=python), _never)
    assert _left(tmp_path) == {"hf", "tools", "out.log"}


def _full(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("")
    return {}


def _no_consent(tmp_path: Path) -> dict[str, Any]:
    return {"environment": tmp_path / "environment", "python": None}


def _lacks_torch(tmp_path: Path) -> dict[str, Any]:
    return {"python": builder_python(tmp_path / "tools", missing=("torch",))}


@pytest.mark.parametrize(
    ("arrange", "error", "reason"),
    [
        (lambda p: {"source": "none"}, BadModel, Reason.MODEL_FILE_MISSING),
        (_full, Conflict, Reason.OUTPUT_EXISTS),
        (_no_consent, Conflict, Reason.TOOL_MISSING),
        (_lacks_torch, Conflict, Reason.TOOL_MISSING),
        (lambda p: {"python": p / "no-python"}, Conflict, Reason.TOOL_MISSING),
    ],
)
def test_a_refusal_comes_before_anything_is_written(
    arrange: Any, error: type[LeptonError], reason: Reason, tmp_path: Path
) -> None:
    hf_folder(tmp_path / "hf")
    changes = {"python": builder_python(tmp_path / "tools")} | arrange(tmp_path)
    before = _left(tmp_path)
    with pytest.raises(error) as caught:
        convert(_request(tmp_path, **changes), lambda folder, num_bytes: False)
    assert caught.value.reason is reason
    assert _left(tmp_path) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupt_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    hf_folder(tmp_path / "hf")
    python = builder_python(tmp_path / "tools", fault="hangs")
    paths = os.pathsep.join((str(ROOT), str(ROOT / "common" / "gen")))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "convert", "hf", "out", "--python", str(python)),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # A shell that runs the tests in the background has them ignore SIGINT; a terminal's does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    built = ".out.*/built-int4"
    try:
        await until(lambda: bool(list(tmp_path.glob(built))), what="the builder runs")
        os.killpg(process.pid, number)  # as a terminal does
        assert await asyncio.wait_for(process.wait(), 60) == 130
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert _left(tmp_path) <= {"hf", "tools", "out.log"}


@pytest.mark.timeout(600)  # two imports of PyTorch, on a machine that may be busy
@pytest.mark.parametrize(
    ("model", "precision"),
    [
        ("tiny-llama", "int4"),
        ("tiny-llama", "int8"),
        ("tiny-gemma3", "int4"),
        ("tiny-smollm3", "int4"),
    ],
)
def test_the_real_builder_makes_a_served_folder(model: str, precision: str, tmp_path: Path) -> None:
    python = os.environ.get("LEPTON_CONVERT_PYTHON")
    if not python:
        pytest.skip("no environment with the builder: LEPTON_CONVERT_PYTHON names none")
    make = "import sys, pathlib; from training.goldens.tiny_models import make_tiny_model as m; "
    subprocess.run(
        [
            python,
            "-c",
            f"{make}m(sys.argv[1], pathlib.Path(sys.argv[2]))",
            model,
            str(tmp_path / "hf"),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    storage = Storage.of(Precision(precision))
    result = convert(_request(tmp_path, python=Path(python), storage=storage), _never)
    assert result.facts.packages["torch"]
    assert result.accuracy is not None
    assert (result.accuracy["stored"]["rms_error"] < 0.2) == (precision == "int8")
    loaded = load_model(result.folder, name="m", threads=1, rows_max=2, prefill_int8=True)
    assert loaded.info.revision == result.revision
