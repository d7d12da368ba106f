"""What a user of the Java client gets: the build, and the example and the README's programs against a cluster."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.support.lepton_up import lepton_up
from tests.support.needs import lacking
from tests.support.processes import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]

CLIENT = ROOT / "clients" / "java"


async def output_of(*command: str | Path, address: str = "") -> str:
    """What it prints; it must end well."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LEPTON_")}
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=CLIENT,
        env=kept | ({"LEPTON_ADDRESS": address} if address else {}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    # Long enough for the first build of a machine, which downloads.
    output, errors = await asyncio.wait_for(process.communicate(), 800)
    assert process.returncode == 0, (output + errors).decode()
    return output.decode()


def programs(folder: Path, address: str) -> list[Path]:
    """The Java blocks of the README as files, asking `address`."""
    readme = (CLIENT / "README.md").read_text("utf-8")
    files = []
    for code in re.findall(r"^```java\n(.*?)^```$", readme, re.M | re.S):
        files.append(folder / f"Readme{len(files)}.java")
        files[-1].write_text(code.replace("127.0.0.1:50051", address), "utf-8")
    return files


@pytest.mark.timeout(900)
async def test_example_and_readme_stream_from_a_cluster(tmp_path: Path) -> None:
    if not shutil.which("mvn"):
        lacking("mvn is missing")
    await output_of("mvn", "-q", "-B", "package")
    classpath = f"target/classes:{(CLIENT / 'target' / 'test.classpath').read_text()}"

    async with lepton_up(tmp_path / "state") as up:
        await up.until_ready()
        address = up.state.address
        said = await output_of(
            "mvn", "-q", "-B", "exec:java", "-Dexec.args='What is 27 + 35?'", address=address
        )
        assert "27 + 35 = 62\n[STOP" in said  # Maven colours the rest
        first, refused = [
            await output_of("java", "-cp", classpath, file) for file in programs(tmp_path, address)
        ]
        assert first.startswith("27 + 35 = 62")
        assert refused.strip() == "FIELD_OUT_OF_RANGE sampling.top_p"
