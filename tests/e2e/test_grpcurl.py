"""grpcurl and `buf curl` find their way by reflection, as the README says."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.needs import lacking
from tests.support.patience import PATIENCE_S
from tests.support.processes import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]

GRPCURL = ROOT / ".tools" / "grpcurl"
REQUEST = json.dumps({"chat": {"messages": [{"role": "ROLE_USER", "content": "What is 12 + 34?"}]}})


async def _run(*command: str | Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_grpcurl_lists_describes_and_generates(make_cluster: Any) -> None:
    if not GRPCURL.exists():
        lacking("grpcurl is not there: `make tools` builds it where Go is installed")
    cluster = await make_cluster(workers=1)
    for address in (cluster.router.address, cluster.workers[0].address):
        services = await _run(GRPCURL, "-plaintext", address, "list")
        assert "lepton.v1.InferenceService" in services
        assert "grpc.health.v1.Health" in services
        described = await _run(
            GRPCURL, "-plaintext", address, "describe", "lepton.v1.InferenceService"
        )
        assert "rpc Generate" in described
        answer = await _run(
            GRPCURL, "-plaintext", "-d", REQUEST, address, "lepton.v1.InferenceService/Generate"
        )
        assert '"finished"' in answer
        assert "46" in "".join(re.findall(r'"text": "([^"]*)"', answer))


async def test_buf_curl_generates(make_cluster: Any) -> None:
    cluster = await make_cluster(workers=1)
    answer = await _run(
        Path(sys.executable).parent / "buf",
        "curl",
        "--protocol",
        "grpc",
        "--http2-prior-knowledge",
        "--data",
        REQUEST,
        f"http://{cluster.router.address}/lepton.v1.InferenceService/Generate",
    )
    assert '"finished"' in answer
