"""What the pages tell a reader to paste works: against a cluster that `lepton up` started."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.ports import free_port
from tests.support.lepton_up import cluster_for_a_file
from tests.support.needs import lacking
from tests.support.processes import ROOT
from tests.support.snippets import shell_commands

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]

PAGES = (
    "README.md",
    "docs/grpcurl.md",
    "docs/rest.md",
    "docs/websocket.md",
    "docs/kserve.md",
    "docs/constrained-output.md",
    "docs/routing.md",
    "docs/direct.md",
    "docs/convert.md",
    "docs/cli.md",
    "CONTRIBUTING.md",
)
BIN = Path(sys.executable).parent
GRPCURL = ROOT / ".tools" / "grpcurl"
COMMAND_S_MAX = 250.0  # some start a cluster, some load PyTorch

TOO_LARGE = re.compile(r"^\.venv/bin/lepton(-gateway| up| convert| run-batch(?= -i requests)) ")
"""Starts a cluster, or needs a file of the reader's: other tests run them; here the flags must exist."""


@pytest.fixture(scope="module", name="cluster_env")
def _cluster_env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment in which the commands find a running cluster."""
    folder = tmp_path_factory.mktemp("docs")
    port, http_port, metrics_port = (str(free_port()) for _ in range(3))
    env = {**os.environ, "LEPTON_AGENT_STATE_DIR": str(folder)}
    flags = ("--workers", "2", "--port", port, "--http-port", http_port)
    with cluster_for_a_file(folder, *flags, "--metrics-port", metrics_port):
        yield {**env, "DOCS_PORT": port, "DOCS_HTTP_PORT": http_port}


def _commands() -> list[tuple[str, str]]:
    return [(page, command) for page in PAGES for command in shell_commands(ROOT / page)]


def test_the_pages_have_commands() -> None:
    assert {page for page, _ in _commands()} == set(PAGES)


@pytest.mark.parametrize(("page", "command"), _commands())
def test_command_of_the_docs_runs(page: str, command: str, cluster_env: dict[str, str]) -> None:
    if command.startswith("docker"):
        assert (ROOT / command.split(" -f ")[1].split()[0]).is_file()
        return
    if command.startswith("make "):
        target = command.split()[1]
        result = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=False)
        assert result.returncode == 0, f"{page}: no target {target}"
        return
    if large := TOO_LARGE.match(command):
        output = _shell(f"{large.group()}--help", cluster_env)
        for flag in re.findall(r"--[a-z-]+", command):
            assert flag in output
        return
    if command.startswith(".tools/") and not GRPCURL.exists():
        lacking("grpcurl is not there: `make tools` builds it where Go is installed")
    output = _shell(command, cluster_env)
    if "27 + 35" in command:
        # grpcurl prints one per event, a stream of REST likewise
        pieces = re.findall(r'"(?:text|content)": ?"([^"]*)"', output)
        assert "62" in ("".join(pieces) or output)


@pytest.mark.parametrize(
    ("page", "said"),
    [("README.md", "27 + 35 = 62"), ("docs/rest.md", "27 + 35 = 62\nMara Oslo\n")],
)
def test_the_python_of_a_page_runs(page: str, said: str, cluster_env: dict[str, str]) -> None:
    text = (ROOT / page).read_text("utf-8")
    program = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    program = program.replace("localhost:8080", f"127.0.0.1:{cluster_env['DOCS_HTTP_PORT']}")
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=COMMAND_S_MAX,
    )
    assert done.stdout == said


def _shell(command: str, env: dict[str, str]) -> str:
    """Runs one pasted line as bash does, with the ports of the test's cluster."""
    line = command.replace("localhost:50051", f"127.0.0.1:{env['DOCS_PORT']}")
    line = line.replace("localhost:8080", f"127.0.0.1:{env['DOCS_HTTP_PORT']}")
    line = line.replace("curl -s", "curl --fail-with-body -s")
    line = re.sub(r"lepton top$", "lepton top --once", line)  # there is no terminal here
    result = subprocess.run(
        ["bash", "-c", line.replace(".venv/bin/", f"{BIN}/")],
        cwd=ROOT,
        env={**env, "COLUMNS": "200", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_S_MAX,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout
