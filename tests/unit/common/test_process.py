from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from common.errors import BadModel, Conflict, Internal, Reason
from common.process import ProcessSpec, Serve, StopRequest, run_process
from common.settings import Section
from tests.support.patience import PATIENCE_S


class Own(Section):
    """Settings of the process under test."""

    size: int = 1
    """How large, metres."""


def spec(serve: Serve) -> ProcessSpec:
    return ProcessSpec(
        program="p", about="Does things.", own="worker", sections={"worker": Own}, serve=serve
    )


def test_flags_weigh_more_than_environment_and_file(tmp_path: Path) -> None:
    seen: list[int] = []

    async def serve(settings: Mapping[str, Any], stop: StopRequest) -> None:
        seen.append(settings["worker"].size)

    file = tmp_path / "s.toml"
    file.write_text("[worker]\nsize = 2\n")
    env = {"LEPTON_WORKER_SIZE": "3", "LEPTON_CONFIG": str(file)}
    assert run_process(spec(serve), ["--size", "4"], env) == 0
    assert run_process(spec(serve), [], env) == 0
    assert run_process(spec(serve), [], {"LEPTON_CONFIG": str(file)}) == 0
    assert run_process(spec(serve), ["--config", str(file)], {}) == 0
    assert seen == [4, 3, 2, 2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_for_the_end(number: signal.Signals) -> None:
    async def serve(settings: Mapping[str, Any], stop: StopRequest) -> None:
        os.kill(os.getpid(), number)
        async with asyncio.timeout(PATIENCE_S):
            await stop.requested.wait()
        assert stop.grace_s is None

    assert run_process(spec(serve), [], {}) == 0


def test_a_second_signal_cancels_what_is_left() -> None:
    cleaned = []

    async def serve(settings: Mapping[str, Any], stop: StopRequest) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.requested.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    assert run_process(spec(serve), [], {}) == 1
    assert cleaned


def test_only_the_first_stop_request_counts() -> None:
    async def serve(settings: Mapping[str, Any], stop: StopRequest) -> None:
        stop.request(3.0)
        stop.request(9.0)
        assert stop.grace_s == 3.0

    assert run_process(spec(serve), [], {}) == 0


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (Conflict("taken\nby x", reason=Reason.PORT_IN_USE), 2, "error: taken by x (PORT_IN_USE)"),
        (BadModel("m: cut"), 2, "error: m: cut (MODEL_FILE_INVALID)"),
        (Internal("broke"), 1, "error: Internal: broke"),
        (RuntimeError("boom"), 1, "error: RuntimeError: boom"),
    ],
)
def test_errors_become_one_line_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], error: Exception, code: int, line: str
) -> None:
    async def serve(settings: Mapping[str, Any], stop: StopRequest) -> None:
        async with asyncio.TaskGroup() as group:  # its exception group must not hide the error

            async def fail() -> None:
                raise error

            group.create_task(fail())

    assert run_process(spec(serve), [], {}) == code
    assert capsys.readouterr().err.splitlines()[-1] == line


def test_help_shows_what_the_docstrings_say(capsys: pytest.CaptureFixture[str]) -> None:
    async def serve(settings: Mapping[str, Any], stop: StopRequest) -> None:
        raise AssertionError

    assert run_process(spec(serve), ["-h"], {}) == 0
    text = capsys.readouterr().out
    assert "--size  (default 1)" in text
    assert "How large, metres." in text


def test_what_a_refusal_repeats_drives_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """It may repeat words of a model folder, which come from elsewhere."""

    async def serve(settings: Mapping[str, Any], stop: StopRequest) -> None:
        raise BadModel(
            "family \x1b[2J\nerror: \x9bx is not served", reason=Reason.MODEL_FILE_INVALID
        )

    assert run_process(spec(serve), [], {}) == 2
    told = "error: family \\x1b[2J error: \\x9bx is not served (MODEL_FILE_INVALID)\n"
    assert capsys.readouterr().err == told
