"""The next commands that `lepton up` prints can be pasted as they are."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from agent.models import choose_models
from agent.plan import make_plan
from agent.settings import AgentSettings
from agent.state import StateDir
from cli.up_report import PrettyReport, own_command
from common.cluster import ClusterSettings


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


@pytest.mark.parametrize("http_address", ["127.0.0.1:8123", ""])
def test_rest_is_shown_where_there_is_rest(tmp_path: Path, http_address: str) -> None:
    plan = make_plan(
        state=StateDir(tmp_path),
        settings=AgentSettings(etcd_binary="none"),
        models=choose_models([]),
        workers=1,
        host="127.0.0.1",
        port=0,
        http_port=0,
        metrics_port=0,
        advertise="",
        cluster=ClusterSettings(),
        config=None,
        env={},
    )
    said = io.StringIO()
    report = PrettyReport(plan, Console(file=said, width=200))
    report.ready(took_s=1.0, http_address=http_address)
    report.next_steps()
    base = f"OPENAI_BASE_URL=http://{http_address}/v1 OPENAI_API_KEY=none"
    assert (base in said.getvalue()) == bool(http_address)
    assert ("http://127.0.0.1:8123/ " in said.getvalue()) == bool(http_address)
    assert plan.address in said.getvalue()
