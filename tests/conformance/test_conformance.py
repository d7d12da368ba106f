"""Every client in every case, side by side."""

from __future__ import annotations

from collections import defaultdict

import pytest
import pytest_asyncio

from common.clock import SystemClock
from tests.conformance.clients import load_clients
from tests.conformance.suite import Verdict, load_cases, run_suite
from tests.support.etcd import require_etcd
from tests.support.needs import lacking

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]

CLIENTS = load_clients()

Faults = dict[str, dict[str, tuple[str, ...]]]
"""By client and case."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def failed(request: pytest.FixtureRequest) -> Faults:
    """Of the clients whose tests were chosen."""
    require_etcd()
    items = [item for item in request.session.items if item.path == request.path]
    names = [
        str(item.callspec.params["name"]) for item in items if isinstance(item, pytest.Function)
    ]
    found: Faults = defaultdict(dict)

    def on_verdict(verdict: Verdict) -> None:
        if not verdict.passed:
            found[verdict.client][verdict.case] = verdict.faults

    clients = [CLIENTS[name] for name in names if not CLIENTS[name].missing]
    await run_suite(clients, load_cases(), SystemClock(), on_verdict=on_verdict)
    return found


@pytest.mark.timeout(900)
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", CLIENTS)
async def test_a_client_behaves_as_all_do(failed: Faults, name: str) -> None:
    missing = CLIENTS[name].missing
    if missing:
        lacking(f"{name} needs {', '.join(missing)}")
    assert failed[name] == {}
