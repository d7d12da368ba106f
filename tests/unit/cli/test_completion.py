"""Shell completion: the scripts, and a real bash that uses one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.support.processes import ROOT
from tests.support.scripted_server import ScriptedServer

Lepton = Callable[..., Result]
Complete = Callable[..., list[list[str]]]

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


@pytest.fixture
def complete(tmp_path: Path, server: ScriptedServer) -> Complete:
    """`complete("lepton ch", …)` → what a real bash offers at the TAB key, for each line."""
    program = tmp_path / "bin" / "lepton"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m cli.main "$@"\n')
    program.chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LEPTON_")}

    def run(*lines: str, address: str = server.address) -> list[list[str]]:
        script = "source <(lepton completion bash)\n"
        for line in lines:
            words = line.split(" ")
            script += f"""
                COMP_WORDS=({" ".join(words[:-1])} "{words[-1]}")
                COMP_CWORD={len(words) - 1}
                _lepton_completion lepton
                echo "${{COMPREPLY[*]}}"
            """
        done = subprocess.run(
            ["bash", "--norc", "-c", script],
            cwd=ROOT,
            env={
                **kept,
                "PATH": f"{program.parent}:{os.environ['PATH']}",
                "PYTHONPATH": f"{ROOT}:{ROOT}/common/gen",
                "LEPTON_ADDRESS": address,
                "LEPTON_AGENT_STATE_DIR": str(tmp_path / "none"),
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stderr == ""
        return [words.split() for words in done.stdout.splitlines()]

    return run


@needs_bash
def test_bash_completes_commands_options_and_models(complete: Complete) -> None:
    lines = ("lepton ch", "lepton chaos kill", "lepton chat --mod")
    assert complete(*lines) == [["chat", "chaos"], ["kill-worker"], ["--model"]]
    # A busy machine may need more than the second that the cluster gets: then people press the key again.
    while (models := complete("lepton chat --model t")) == [[]]:
        pass
    assert models == [["tiny"]]


@needs_bash
def test_bash_is_told_nothing_when_nothing_runs(complete: Complete) -> None:
    lines = ("lepton chat --model t", "lepton top --worker w")
    assert complete(*lines, address="127.0.0.1:1") == [[], []]


@needs_bash
def test_a_cluster_that_is_silent_does_not_hold_the_shell(complete: Complete) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert complete("lepton chat --model t", address=address) == [[]]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(lepton: Lepton, shell: str) -> None:
    done = lepton("completion", shell)
    assert done.exit_code == 0
    assert f"_LEPTON_COMPLETE=complete_{shell}" in done.stdout


@pytest.mark.parametrize("shell", ["/bin/tcsh", ""])
def test_a_shell_that_is_not_known(
    lepton: Lepton, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setenv("SHELL", shell)
    for arguments in (["completion"], ["--install-completion"], ["completion", "csh"]):
        done = lepton(*arguments)
        assert done.exit_code == 2
        assert "bash, zsh, fish" in done.stderr


def test_installing_writes_where_the_shell_looks(
    lepton: Lepton, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/usr/bin/bash")
    done = lepton("--install-completion")
    assert done.exit_code == 0
    script = tmp_path / ".bash_completions" / "lepton.sh"
    assert "complete_bash" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()
    assert str(script) in done.stdout
