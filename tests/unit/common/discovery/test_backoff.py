"""Waits grow, stay below a bound, and are never the same for everybody."""

from __future__ import annotations

import asyncio

from common.discovery.backoff import Backoff
from tests.support.manual_clock import ManualClock


class RecordingClock(ManualClock):
    """Does not wait, remembers how long it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


async def waits(num: int, *, least_s: float, most_s: float) -> list[float]:
    clock = RecordingClock()
    backoff = Backoff(clock, least_s=least_s, most_s=most_s)
    for _ in range(num):
        await backoff.wait()
    return clock.slept


async def test_each_wait_lies_in_its_half_open_step() -> None:
    for _ in range(50):
        for wait_s, length_s in zip(
            await waits(6, least_s=0.1, most_s=1), [0.1, 0.2, 0.4, 0.8, 1, 1], strict=True
        ):
            assert length_s / 2 <= wait_s <= length_s


async def test_many_clients_do_not_come_back_together() -> None:
    first = await asyncio.gather(*(waits(1, least_s=1, most_s=1) for _ in range(50)))
    assert len({wait_s for [wait_s] in first}) > 40


async def test_success_begins_anew() -> None:
    clock = RecordingClock()
    backoff = Backoff(clock, least_s=0.1, most_s=10)
    for _ in range(5):
        await backoff.wait()
    backoff.reset()
    await backoff.wait()
    assert clock.slept[-1] <= 0.1


async def test_a_bound_below_the_first_wait_is_the_first_wait() -> None:
    assert all(0.5 <= wait_s <= 1 for wait_s in await waits(5, least_s=1, most_s=0.1))
