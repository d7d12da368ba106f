"""What a user of the Go client gets: its tests, its stubs, its examples and its README, against a running cluster."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.lepton_up import lepton_up
from tests.support.needs import lacking
from tests.support.processes import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.etcd, pytest.mark.timeout(900)]

CLIENT = ROOT / "clients" / "go"
BUILD_S_MAX = 600.0  # of the first build on a machine, which compiles gRPC


@pytest.fixture(autouse=True)
def _go() -> None:
    if shutil.which("go") is None:
        lacking("Go is missing")


async def output_of(*command: str | Path, **env: str) -> str:
    """What it prints; it must end well."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=CLIENT,
        env={k: v for k, v in os.environ.items() if not k.startswith("LEPTON_")} | env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), BUILD_S_MAX)
    assert process.returncode == 0, (output + errors).decode()
    return output.decode()


def snippets() -> tuple[list[str], list[str]]:
    """The Go blocks of the README: whole programs, and pieces."""
    found = re.findall(
        r"^```go\n(.*?)^```$", (CLIENT / "README.md").read_text("utf-8"), re.M | re.S
    )
    programs = [code for code in found if code.startswith("package main")]
    return programs, [code for code in found if code not in programs]


async def test_the_stubs_are_in_step_with_the_protos() -> None:
    await output_of(sys.executable, ROOT / "tools" / "protos_go.py", "--check")


async def test_the_client_is_tidy_and_passes_its_own_tests() -> None:
    assert await output_of("gofmt", "-l", ".") == ""
    await output_of("go", "vet", "./...")
    await output_of("go", "test", "./...")
    await output_of("go", "-C", "examples/otel", "vet", "./...")


def test_pieces_of_the_readme_are_compiled() -> None:
    examples = re.sub(r"^\t+", "", (CLIENT / "example_test.go").read_text("utf-8"), flags=re.M)
    for piece in snippets()[1]:
        assert re.sub(r"^\t+", "", piece, flags=re.M) in examples


async def test_examples_and_readme_stream_from_a_cluster(tmp_path: Path) -> None:
    async with lepton_up(tmp_path / "state") as up:
        await up.until_ready()
        address = up.state.address
        chat = ("go", "run", "./examples/chat", "What is 12 + 34?")
        said = await output_of(*chat, LEPTON_ADDRESS=address)
        assert said.splitlines()[0] == "12 + 34 = 46"
        said = await output_of("go", "-C", "examples/otel", "run", ".", LEPTON_ADDRESS=address)
        answer, ids = said.splitlines()
        assert answer == "27 + 35 = 62"
        assert len(set(ids.split())) == 1, "the cluster went on with another trace"
        (program,) = snippets()[0]
        # Inside the module, where Go finds the client, and in a folder that `./...` passes over.
        with tempfile.TemporaryDirectory(dir=CLIENT, prefix="_readme") as folder:
            main = Path(folder) / "main.go"
            main.write_text(program.replace("localhost:50051", address), "utf-8")
            assert await output_of("go", "run", main) == "27 + 35 = 62 STOP 11 tokens\n"
