"""The next commands that `lepton up` prints can be pasted as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.up_report import own_command


@pytest.fixture(name="program")
def _program(tmp_path: Path) -> Path:
    program = tmp_path / "checkout" / ".venv" / "bin" / "lepton"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program


def test_a_command_on_path_is_called_by_its_name(program: Path, tmp_path: Path) -> None:
    assert own_command(str(program), tmp_path, {"PATH": str(program.parent)}) == "lepton"


def test_elsewhere_it_is_called_by_its_path(program: Path, tmp_path: Path) -> None:
    env = {"PATH": str(tmp_path)}
    assert own_command(str(program), tmp_path / "checkout", env) == ".venv/bin/lepton"
    assert own_command(str(program), tmp_path / "other", env) == str(program)


def test_another_lepton_on_path_is_not_taken_for_this_one(program: Path, tmp_path: Path) -> None:
    other = tmp_path / "bin" / "lepton"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    env = {"PATH": str(other.parent)}
    assert own_command(str(program), tmp_path / "checkout", env) == ".venv/bin/lepton"


def test_a_module_is_called_by_the_command_that_people_have(tmp_path: Path) -> None:
    assert own_command("/somewhere/cli/main.py", tmp_path, {"PATH": ""}) == "lepton"
