"""The soak itself, in short: a leak that was planted is caught, and without it nothing is held back."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from common.errors import Reason, Unavailable
from loadtest.soak import process
from loadtest.soak.__main__ import main
from tests.support.tiny_models import TINY_LLAMA_INT4

SHORT = [
    "--rounds",
    "16",
    "--requests",
    "20",
    "--callers",
    "8",
    "--limit",
    "65536",
    "--warm-up",
    "0",
    "--json",
]
"""So short that warming up still shows: what is no leak is set to 64 KiB a call, and 256 KiB are planted."""


def soak(
    capsys: pytest.CaptureFixture[str], log: Path, *flags: str
) -> tuple[int, dict[str, Any], str]:
    """The exit code, what was found, and what was said beside it."""
    code = main(["--model", str(TINY_LLAMA_INT4), "--log", str(log), *SHORT, *flags])
    out, said = capsys.readouterr()
    found: dict[str, Any] = json.loads(out)
    return code, found, said


def test_a_planted_leak_is_caught(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    code, found, said = soak(capsys, log, "--plant-leak", "256")
    assert code == 1
    assert f"the worker's log: {log}" in said
    assert "rpc.call" in log.read_text("utf-8")
    assert found["memory"]["verdict"] == "leaks"
    assert not found["faults"]


def test_without_it_memory_is_flat_and_nothing_is_left_behind(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, found, said = soak(capsys, tmp_path / "worker.log")
    assert found["faults"] == []
    assert "the worker's log" not in said
    assert found["memory"]["verdict"] == "flat", found
    assert code == 0
    assert found["calls"] == sum(found["outcomes"].values()) == 320
    # Calls of every kind came, and ended as they may.
    assert {
        "answered",
        "cancelled",
        "DEADLINE_EXCEEDED",
        "PROMPT_TOO_LONG",
        "MODEL_NOT_FOUND",
    } <= set(found["outcomes"])
    assert (found["last"]["files"], found["last"]["tasks"]) == (
        found["first"]["files"],
        found["first"]["tasks"],
    )


def test_a_worker_that_does_not_start_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["--model", str(tmp_path), "--log", str(tmp_path / "worker.log"), *SHORT]) == 1
    assert "MODEL_FILE_MISSING" in capsys.readouterr().err


async def test_a_worker_that_does_not_answer_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(process, "VITALS_S_MAX", 0.1)
    log = tmp_path / "worker.log"
    async with process.observed_worker(log, TINY_LLAMA_INT4, leak_kib=0, flags={}) as worker:
        assert worker._process.pid is not None
        os.kill(worker._process.pid, signal.SIGSTOP)
        with pytest.raises(Unavailable, match="has not answered") as caught:
            await worker.vitals()
        os.kill(worker._process.pid, signal.SIGCONT)
    assert caught.value.reason is Reason.PROCESS_FAILED
