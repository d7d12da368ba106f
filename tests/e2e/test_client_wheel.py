"""What a user of the Python client gets: its wheel, alone in an environment of its own, against a running cluster."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.lepton_up import lepton_up
from tests.support.processes import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.etcd, pytest.mark.timeout(600)]

CLIENT = ROOT / "clients" / "python"
UV = Path(sys.executable).parent / "uv"
INSTALL_S_MAX = 300.0


async def output_of(*command: str | Path, folder: Path) -> str:
    """What it prints; it must end well."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith(("LEPTON_", "PYTHON"))},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), INSTALL_S_MAX)
    assert process.returncode == 0, (output + errors).decode()
    return output.decode()


async def build(folder: Path) -> Path:
    """The wheel, built from a clean tree."""
    # setuptools leaves a `build` folder and metadata where it works.
    source = folder / "source"
    await output_of("cp", "-rL", CLIENT, source, folder=folder)
    await output_of(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist"),
        source,
        folder=folder,
    )
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def snippets() -> list[str]:
    """The Python blocks of the README."""
    found = re.findall(
        r"^```python\n(.*?)^```$", (CLIENT / "README.md").read_text("utf-8"), re.M | re.S
    )
    assert len(found) >= 2
    return found


async def test_the_wheel_alone_streams_from_a_cluster(tmp_path: Path) -> None:
    wheel = await build(tmp_path)
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "lepton",
        "lepton_client",
        f"lepton_client-{wheel.name.split('-')[1]}.dist-info",
    }
    assert "lepton_client/py.typed" in names
    assert "lepton/v1/inference_pb2.pyi" in names

    python = tmp_path / "venv" / "bin" / "python"
    await output_of(UV, "venv", "--quiet", "--python", sys.executable, "venv", folder=tmp_path)
    pins = tmp_path / "pins.txt"
    locked = (ROOT / "requirements" / "base.lock").read_text("utf-8")
    pins.write_text("\n".join(re.findall(r"^[a-z0-9._-]+==\S+", locked, re.M)), "utf-8")
    await output_of(
        *(UV, "pip", "install", "--quiet", "--python", python, "--constraint", pins, wheel),
        folder=tmp_path,
    )
    installed = await output_of(UV, "pip", "list", "--python", python, folder=tmp_path)
    assert not re.search(r"^(lepton|numpy|pydantic) ", installed, re.M)

    async with lepton_up(tmp_path / "state") as up:
        await up.until_ready()
        address = up.state.address
        examples = CLIENT / "examples"
        said = await output_of(python, examples / "stream.py", address, folder=tmp_path)
        assert said.splitlines()[0] == "27 + 35 = 62"
        said = await output_of(python, examples / "many.py", address, folder=tmp_path)
        assert said.splitlines() == ["12 + 34 = 46", "27 + 35 = 62", "80 + 11 = 91"]
        assert await output_of(python, examples / "resume.py", address, folder=tmp_path)
        first, second = [
            await output_of(python, "-c", code.replace("127.0.0.1:50051", address), folder=tmp_path)
            for code in snippets()[:2]
        ]
        assert first.startswith("27 + 35 = 62")
        assert second.strip() == "FIELD_OUT_OF_RANGE sampling.top_p"
