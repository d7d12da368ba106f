"""Every client in every case, on clusters that start once."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from common.clock import SystemClock
from tests.conformance.clients import load_clients
from tests.conformance.suite import Suite, load_cases, open_suite
from tests.support.etcd import require_etcd

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]

CLIENTS = load_clients()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def suite() -> AsyncIterator[Suite]:
    require_etcd()
    async with open_suite(SystemClock()) as opened:
        yield opened


@pytest.mark.timeout(900)
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", CLIENTS)
async def test_a_client_behaves_as_all_do(suite: Suite, name: str) -> None:
    client = CLIENTS[name]
    if client.missing:
        reason = f"{name} needs {', '.join(client.missing)}"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    failed = {v.case: v.faults async for v in suite.run(client, load_cases()) if not v.passed}
    assert failed == {}
