"""One cluster, and its open doors, for all tests of a file; nobody may have been harmed at its end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.support.demo_cluster import DemoCluster, demo_cluster
from tests.support.doors import Doors, doors_of
from tests.support.unharmed import unharmed


@pytest_asyncio.fixture(name="cluster", scope="module", loop_scope="module")
async def _cluster() -> AsyncIterator[DemoCluster]:
    async with demo_cluster() as cluster, unharmed(cluster):
        yield cluster


@pytest_asyncio.fixture(name="doors", scope="module", loop_scope="module")
async def _doors(cluster: DemoCluster) -> AsyncIterator[Doors]:
    async with doors_of(cluster) as doors:
        yield doors
