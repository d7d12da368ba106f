"""`lepton convert` and `lepton quantize` as a user meets them: refusals, consent, JSON."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result as Done

from cli import screen
from cli.convert_view import show_result
from convert.precision import Precision, Storage
from convert.result import Facts, Result
from tests.support.conversions import builder_python, hf_folder
from tests.support.processes import ROOT

Lepton = Callable[..., Done]


@pytest.fixture(autouse=True)
def _no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEPTON_CONVERT_PYTHON", raising=False)
    monkeypatch.setenv("LEPTON_CONVERT_ENVIRONMENT", str(tmp_path / "environment"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["{none}", "{out}"], "MODEL_FILE_MISSING"),
        (["{hf}", "{hf}"], "OUTPUT_EXISTS"),
        (["{hf}", "{out}", "--block-size", "48"], "FIELD_OUT_OF_RANGE"),
        (["{hf}", "{out}", "--precision", "fp32", "--block-size", "32"], "FIELD_MALFORMED"),
        (["{hf}", "{out}", "--python", "{none}"], "TOOL_MISSING"),
        (["{hf}", "{out}"], "TOOL_MISSING"),
    ],
)
def test_a_refusal_is_one_line_with_its_reason(
    arguments: list[str], reason: str, lepton: Lepton, tmp_path: Path
) -> None:
    hf_folder(tmp_path / "hf")
    places = {name: str(tmp_path / name) for name in ("hf", "out", "none")}
    done = lepton("convert", *(text.format(**places) for text in arguments))
    assert done.exit_code == 2
    assert f"({reason})" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"hf", "state"}


def test_without_a_terminal_nothing_is_installed_and_the_size_is_told(
    lepton: Lepton, tmp_path: Path
) -> None:
    done = lepton("convert", str(hf_folder(tmp_path / "hf")), str(tmp_path / "out"), "--json")
    assert done.exit_code == 2
    error = json.loads(done.stdout)["error"]
    assert error["reason"] == "TOOL_MISSING"
    assert "3.1 GB to download, once" in error["message"]
    assert "--yes" in error["message"]
    assert not (tmp_path / "environment").exists()


def test_on_a_terminal_the_user_is_asked_and_no_is_no(tmp_path: Path) -> None:
    hf_folder(tmp_path / "hf")
    ours, theirs = pty.openpty()
    paths = os.pathsep.join((str(ROOT), str(ROOT / "common" / "gen")))
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "convert", "hf", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths, "TERM": "dumb"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = b""
    while b"Install them?" not in said:
        said += os.read(ours, 4096)
    assert b"3.1 GB to download" in said
    os.write(ours, b"n\n")
    while piece := _read(ours):
        said += piece
    assert process.wait(30) == 2
    assert b"(TOOL_MISSING)" in said
    assert not (tmp_path / "environment").exists()


def _read(handle: int) -> bytes:
    try:
        return os.read(handle, 4096)
    except OSError:  # how a terminal whose other end is closed ends
        return b""


def test_the_result_as_json(lepton: Lepton, tmp_path: Path) -> None:
    source, python = hf_folder(tmp_path / "hf"), builder_python(tmp_path / "tools")
    out = tmp_path / "out"
    done = lepton(
        "convert", str(source), str(out), f"--python={python}", "--block-size=32", "--no-accuracy",
        "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["folder"], record["precision"], record["accuracy"]) == (str(out), "int4", None)
    assert "checking the result as a worker does" in done.stderr


def test_the_result_as_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    screen.out.cache_clear()
    screen.err.cache_clear()
    facts = Facts(
        name="m", source="hf", family="llama", num_parameters=10, license=None, context_max=None,
        storage=Storage.of(Precision.INT4), made_by="lepton", command="", packages={},
    )  # fmt: skip
    cost = {
        "num_tokens": 900, "rms_error": 0.0312, "top1_agreement": 0.975, "perplexity": 12.5,
        "reference_perplexity": 12.0, "perplexity_ratio": 1.0417,
    }  # fmt: skip
    show_result(
        Result(
            folder=tmp_path, facts=facts, revision="0123456789abcdef", source_bytes=2_000_000,
            weight_bytes=500_000, golden=None, accuracy={"stored": cost, "int8": cost},
        )
    )  # fmt: skip
    said = capsys.readouterr()
    for word in ("900 tokens", "0.0312", "97.50%", "1.0417", "weights as stored", "0123456789ab"):
        assert word in said.out
    assert f"lepton up --model {tmp_path}" in said.out
    assert "no golden prompt" in said.err


def test_quantize_refuses_what_the_source_has_already(lepton: Lepton, tmp_path: Path) -> None:
    done = lepton("quantize", str(tmp_path), str(tmp_path / "out"), "--precision", "fp32")
    assert done.exit_code == 2
    assert "(FIELD_OUT_OF_RANGE)" in done.stderr
