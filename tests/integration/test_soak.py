"""The soak itself, in short: a leak that was planted is caught, and without it nothing is held back."""

from __future__ import annotations

import json
from typing import Any

import pytest

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


def soak(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, dict[str, Any]]:
    code = main(["--model", str(TINY_LLAMA_INT4), *SHORT, *flags])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, found


def test_a_planted_leak_is_caught(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = soak(capsys, "--plant-leak", "256")
    assert code == 1
    assert found["memory"]["verdict"] == "leaks"
    assert not found["faults"]


def test_without_it_memory_is_flat_and_nothing_is_left_behind(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, found = soak(capsys)
    assert found["faults"] == []
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
    capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    assert main(["--model", str(tmp_path), *SHORT]) == 1
    assert "MODEL_FILE_MISSING" in capsys.readouterr().err
