"""The command as a whole."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from cli import screen
from cli.commands import COMMANDS, Command
from cli.outcome import show_error
from common.errors import Unavailable
from tests.support.processes import ROOT

Lepton = Callable[..., Result]

NAMES = [command.example.split()[0] for command in COMMANDS] + ["chaos"]

HEAVY = (
    "grpc",
    "pydantic",
    "numpy",
    "onnxruntime",
    "opentelemetry",
    "tokenizers",
    "google.protobuf",
    "textual",
    "httpx2",
    "msgspec",
)


def test_help_names_every_command_in_its_group_and_the_exit_codes(lepton: Lepton) -> None:
    text = lepton("--help").stdout
    assert "130 interrupted" in text
    for group in ("Run a cluster", "Ask it", "Look inside", "Models", "Test and measure"):
        assert group in text
    for name in NAMES:
        assert name in text


@pytest.mark.parametrize("name", NAMES)
def test_every_command_explains_itself_and_gives_an_example(lepton: Lepton, name: str) -> None:
    done = lepton(name, "--help")
    assert done.exit_code == 0
    assert "--help" in done.stdout
    assert f"Example: lepton {name}" in done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.example)
def test_the_flags_of_the_examples_exist(lepton: Lepton, command: Command) -> None:
    name, *rest = shlex.split(command.example)
    explained, _, example = lepton(name, "--help").stdout.partition("Example:")
    assert example
    for flag in (one for one in rest if one.startswith("-")):
        assert flag in explained


@pytest.mark.parametrize("name", [*NAMES, "chaos kill-worker"])
def test_the_help_names_types_as_people_do(lepton: Lepton, name: str) -> None:
    text = lepton(*name.split(), "--help").stdout
    assert "<bool>" not in text
    assert "range>" not in text


def test_the_help_breaks_its_lines_where_the_terminal_ends(lepton: Lepton) -> None:
    assert "requests arrive by plan and wait for nobody" in lepton("bench", "--help").stdout


def test_alone_it_says_what_to_type_next(lepton: Lepton, monkeypatch: pytest.MonkeyPatch) -> None:
    done = lepton()
    assert done.exit_code == 0
    assert "No cluster runs here" in done.stdout
    assert "lepton up" in done.stdout
    monkeypatch.setenv("LEPTON_ADDRESS", "llm.example.org:50051")
    done = lepton()
    assert "llm.example.org:50051" in done.stdout
    assert "lepton chat" in done.stdout


def test_a_command_that_is_not_there(lepton: Lepton) -> None:
    done = lepton("genrate")
    assert done.exit_code == 2
    assert "Did you mean 'generate'?" in done.stderr


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom cli.main import app\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_version(lepton: Lepton) -> None:
    assert lepton("version").stdout.startswith("lepton ")
    assert set(json.loads(lepton("version", "--json").stdout)) == {"lepton", "python"}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--model", "/no/such/folder"], "MODEL_FILE_MISSING"),
        (["--model", "{model}", "--etcd", "/no/such/etcd"], "SETTING_INVALID"),
        (["--model", "{model}", "--host", "0.0.0.0"], "BIND_NOT_ALLOWED"),
        (["--model", "{model}", "--host", "203.0.113.9", "--insecure"], "PORT_IN_USE"),
        (["--model", "{model}", "--config", "/no/such.toml"], "SETTING_INVALID"),
        (["--model", "{model}", "--workers", "1000000000"], "SETTING_INVALID"),
    ],
)
def test_up_refuses_before_it_starts_anything(
    lepton: Lepton, tmp_path_factory: pytest.TempPathFactory, arguments: list[str], reason: str
) -> None:
    model = tmp_path_factory.mktemp("model")
    (model / "genai_config.json").write_text("{}")
    done = lepton("up", "--port=0", *(argument.format(model=model) for argument in arguments))
    assert done.exit_code == 2
    assert reason in done.stderr
    assert "Traceback" not in done.output


def test_the_settings_of_the_cluster_hold_for_up(
    lepton: Lepton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal names `cluster.insecure`: so setting it must help, in the file as in the environment."""
    (tmp_path / "genai_config.json").write_text("{}")
    up = ["up", "--port=0", f"--model={tmp_path}", "--host=203.0.113.9"]
    assert "BIND_NOT_ALLOWED" in lepton(*up).stderr
    file = tmp_path / "lepton.toml"
    file.write_text("[cluster]\ninsecure = true\n")
    assert "PORT_IN_USE" in lepton(*up, f"--config={file}").stderr  # so far it came
    monkeypatch.setenv("LEPTON_CLUSTER_INSECURE", "true")
    assert "PORT_IN_USE" in lepton(*up).stderr


def test_an_error_message_drives_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    screen.err.cache_clear()
    show_error(Unavailable("a\x1b[2J\x9b2J[bold]b"))
    assert capsys.readouterr().err.startswith(r"error: a\u001b[2J2J[bold]b (NO_WORKER)")


def test_a_refusal_in_json(lepton: Lepton) -> None:
    done = lepton("up", "--model", "/no/such/folder", "--json")
    assert json.loads(done.stdout)["error"]["reason"] == "MODEL_FILE_MISSING"


def test_a_terminal_without_unicode_costs_signs_only(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "LEPTON_AGENT_STATE_DIR": str(tmp_path)}
    code = "from cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "generate", "--help"], cwd=ROOT, env=env, capture_output=True
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
