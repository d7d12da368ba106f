"""Asking a process one thing, with real processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from common.errors import BadModel, LeptonError, Reason, Unavailable
from common.oneshot import ask
from tests.support.processes import ROOT

HEAD = "import os, sys\nfrom common.errors import *\nfrom common.oneshot import answer\n"


def _ask(code: str, log: Path, seconds_max: float = 60) -> object:
    command = [sys.executable, "-c", HEAD + code]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return ask(command, what="the work", log=log, env=env, seconds_max=seconds_max)


def test_the_answer_comes_back_whatever_is_printed_beside_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = (
        "def handle():\n    print('from Python')\n    os.write(1, b'from C')\n"
        "    return {'word': 'ü'}\nsys.exit(answer(handle))"
    )
    assert _ask(code, log) == {"word": "ü"}
    assert "from Python" in log.read_text()
    assert "from C" in log.read_text()


def test_an_error_keeps_class_reason_and_message(tmp_path: Path) -> None:
    code = (
        "def handle():\n    raise BadModel('a: is broken', reason=Reason.MODEL_FILE_INVALID)\n"
        "sys.exit(answer(handle))"
    )
    with pytest.raises(BadModel, match="a: is broken") as caught:
        _ask(code, tmp_path / "log")
    assert caught.value.reason is Reason.MODEL_FILE_INVALID


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def handle():\n    raise KeyError('x')\nsys.exit(answer(handle))", "crashed"),
        ("os.kill(os.getpid(), 9)", "killed by signal 9; is there enough memory?"),
        ("", "gave no answer"),
        ("print('no JSON')", "gave no answer"),
    ],
)
def test_a_process_without_an_answer_is_a_typed_error_with_its_log(
    code: str, message: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with pytest.raises(LeptonError) as caught:
        _ask(code, log)
    assert isinstance(caught.value, Unavailable)
    assert caught.value.reason is Reason.PROCESS_FAILED
    assert message in caught.value.message
    assert str(log) in caught.value.message
    if message == "crashed":
        assert "KeyError" in log.read_text()


def test_a_process_that_does_not_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"took longer than 0\.2 s"):
        _ask("import time\ntime.sleep(600)", tmp_path / "log", seconds_max=0.2)
