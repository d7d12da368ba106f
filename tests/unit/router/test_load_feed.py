"""Following a worker's load. (With real workers: tests/integration/test_router_failures.py.)"""

from __future__ import annotations

import asyncio
from random import Random
from typing import NoReturn

from router.core.handouts import Handouts
from router.core.pool import EndpointPool
from router.upstream.channels import Channels
from router.upstream.load_feed import LoadFeed, LoadFeedLimits
from tests.support.endpoints import make_endpoint
from tests.support.manual_clock import ManualClock
from tests.support.patience import PATIENCE_S


async def test_a_fault_of_ours_costs_a_try_and_not_the_router() -> None:
    """A follower that raised would end its task group, and with it every call there is."""
    tries: list[str] = []

    def broken(address: str) -> NoReturn:
        tries.append(address)
        raise RuntimeError("a fault")

    clock = ManualClock()
    feed = LoadFeed(
        pool=EndpointPool(clock, hold_down_s_max=60, abandon_s=5, remember_s=300),
        channels=Channels(broken),
        handouts=Handouts(clock, Random(1), ticket_s=5, moves_max=2),
        router_id="r",
        metadata=(),
        limits=LoadFeedLimits(interval_ms=50, silence_s_max=2),
        clock=clock,
        random=Random(1),
    )
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        following = group.create_task(feed.follow(make_endpoint()))
        for _ in range(3):
            await clock.wait_for_sleepers(1)
            clock.advance(1)
        await clock.wait_for_sleepers(1)
        following.cancel()
    assert tries == ["w1:1"] * 4
