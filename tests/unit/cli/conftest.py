"""The command as a user types it, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli import screen
from cli.main import app
from tests.support.scripted_server import ScriptedServer, scripted_server


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        yield server


@pytest.fixture
def lepton(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """`lepton("generate", "hi")` → exit code, stdout, stderr. It sees no cluster but the one it is told of."""
    for name in ("LEPTON_ADDRESS", "LEPTON_CONFIG", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LEPTON_AGENT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, text: str | None = None) -> Result:
        # Consoles remember the streams of the call before.
        screen.out.cache_clear()
        screen.err.cache_clear()
        return CliRunner().invoke(app, list(arguments), input=text)

    yield run
    screen.out.cache_clear()
    screen.err.cache_clear()
