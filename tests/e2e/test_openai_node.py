"""The official client from npm against a cluster with the demo model: tests/e2e/node has the cases.

Pinned to the newest release that runs on every Node since 20.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.support.lepton_up import lepton_up
from tests.support.needs import lacking
from tests.support.processes import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]

CASES = ROOT / "tests" / "e2e" / "node"
INSTALL_S_MAX = 300.0


async def _output_of(*command: str, cwd: Path, **env: str) -> str:
    """What it prints; it must end well."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), INSTALL_S_MAX)
    assert process.returncode == 0, output.decode()
    return output.decode()


async def _node_modules() -> Path:
    """What the lock file names, installed once."""
    lock = (CASES / "package-lock.json").read_bytes()
    kept = ROOT / ".tools" / f"openai-node-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not kept.is_dir():
        kept.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            new = Path(folder) / "new"
            new.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(CASES / name, new)
            await _output_of("npm", "ci", "--no-audit", "--no-fund", cwd=new)
            # Whole or not there: a run that is stopped half-way leaves nothing that the next would trust.
            new.rename(kept)
    return kept / "node_modules"


@pytest.mark.timeout(900)
async def test_the_client_from_npm(tmp_path: Path) -> None:
    if not (shutil.which("node") and shutil.which("npm")):
        lacking("Node is missing")
    (tmp_path / "node_modules").symlink_to(await _node_modules())
    shutil.copy(CASES / "cases.test.mjs", tmp_path)
    # The demo model's template shows no tools; what is forced by grammar comes all the same.
    config = tmp_path / "lepton.toml"
    config.write_text('[worker]\ntool_format = "hermes"\n', "utf-8")
    async with lepton_up(tmp_path / "state", "--http-port=0", f"--config={config}") as up:
        await up.until_ready()
        base = f"http://{up.state.http_address}/v1"
        command = ("node", "--test", "--test-reporter=tap", "cases.test.mjs")
        said = await _output_of(*command, cwd=tmp_path, OPENAI_BASE_URL=base, OPENAI_API_KEY="none")
    assert "# fail 0" in said
    assert "# skipped 0" in said
