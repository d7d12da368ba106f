"""Every row of the catalogue gets one verdict, whichever door it came through, and harms nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.bad_requests import ROWS, Row
from tests.support.demo_cluster import demo_cluster
from tests.support.doors import DOORS, Doors, Refusal, doors_of
from tests.support.unharmed import unharmed

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(name="doors", scope="module", loop_scope="module")
async def _doors() -> AsyncIterator[Doors]:
    async with demo_cluster() as cluster, doors_of(cluster) as doors, unharmed(cluster):
        yield doors


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.id} {row.about}"[:60] for row in ROWS])
async def test_every_door_refuses_alike(doors: Doors, row: Row) -> None:
    wrong: dict[str, object] = {}
    for door, (asked, field) in row.says.items():
        is_http = "gRPC" not in door and door != "WebSocket"
        expected = Refusal.expected(row.error, row.reason, field, is_http=is_http)
        verdict = await DOORS[door](doors, asked)
        if verdict != expected:
            wrong[door] = (verdict, expected)
    assert wrong == {}
