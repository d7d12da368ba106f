"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools

from tests.support.patience import PATIENCE_S

__all__ = ["ManualClock"]


class ManualClock:
    """A `common.clock.Clock` in the hands of a test: thirty seconds cost nothing.

    `now` and `wall` may be read from any thread; `sleep` and `advance` belong to one event loop.

        clock = ManualClock()
        task = group.create_task(service.run())     # sleeps 30 s somewhere inside
        await clock.wait_for_sleepers(1)            # it got there: no guessing
        clock.advance(30)                           # it goes on at the next turn of the event loop
    """

    def __init__(self, *, now: float = 1000.0, wall: float = 1_800_000_000.0) -> None:
        self._now = now
        self._wall = wall
        self._ids = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._changed = asyncio.Event()

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._wall

    def set_wall(self, wall: float) -> None:
        """Moves the wall clock alone, as when an administrator corrects it."""
        self._wall = wall

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        if seconds <= 0:
            asyncio.get_running_loop().call_soon(_wake, future)
        else:
            heapq.heappush(self._sleepers, (self._now + seconds, next(self._ids), future))
        self._changed.set()
        await future

    def advance(self, seconds: float) -> None:
        """Moves time on and wakes, in order, everybody whose time has come."""
        self._now += seconds
        self._wall += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _wake(heapq.heappop(self._sleepers)[2])

    @property
    def num_sleepers(self) -> int:
        """Calls of `sleep` that have not returned (cancelled ones do not count)."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def wait_for_sleepers(self, num: int, *, timeout_s: float = PATIENCE_S) -> None:
        """Returns when at least `num` calls of `sleep` wait; TimeoutError after `timeout_s` real seconds."""
        async with asyncio.timeout(timeout_s):
            while self.num_sleepers < num:
                self._changed.clear()
                await self._changed.wait()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
