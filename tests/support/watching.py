"""Reads a watcher in the background, so that a test can wait for what it should see, and see what it should not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from common.clock import SystemClock
from common.discovery.api import Registration, Snapshot, Watcher
from common.discovery.background import Background
from tests.support.patience import PATIENCE_S

__all__ = ["Seen", "until_announced", "watching"]


class Seen:
    """All snapshots so far, oldest first."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self._more = asyncio.Condition()

    @property
    def last(self) -> Snapshot:
        """The newest."""
        return self.snapshots[-1]

    async def until(
        self, wanted: Callable[[Snapshot], bool], *, within_s: float = PATIENCE_S
    ) -> Snapshot:
        """The newest snapshot as soon as it is as wanted; fails after `within_s`."""

        def met() -> bool:
            return bool(self.snapshots) and wanted(self.last)

        try:
            async with asyncio.timeout(within_s), self._more:
                await self._more.wait_for(met)
        except TimeoutError:
            raise AssertionError(
                f"not within {within_s:g} s; last: {self.snapshots[-1:]}"
            ) from None
        return self.last

    async def never(self, unwanted: Callable[[Snapshot], bool], *, for_s: float) -> None:
        """Fails when a snapshot like that is, or becomes, the newest within `for_s`."""
        try:
            found = await self.until(unwanted, within_s=for_s)
        except AssertionError:
            return
        raise AssertionError(f"seen: {found}")

    async def collect(self, snapshots: AsyncGenerator[Snapshot]) -> None:
        """Reads for ever."""
        async for snapshot in snapshots:
            async with self._more:
                self.snapshots.append(snapshot)
                self._more.notify_all()


@asynccontextmanager
async def watching(watcher: Watcher) -> AsyncIterator[Seen]:
    """What the watcher says while the block runs."""
    seen = Seen()
    async with aclosing(watcher.snapshots()) as snapshots:
        reader = Background(seen.collect(snapshots), name="watching")
        try:
            yield seen
        finally:
            await reader.close()


async def until_announced(registration: Registration, *, within_s: float = PATIENCE_S) -> None:
    """Waits until the registration knows that it is announced; fails after `within_s`."""
    clock = SystemClock()
    deadline = clock.now() + within_s
    while not registration.announced:
        assert clock.now() < deadline, f"not announced within {within_s:g} s: {registration}"
        await clock.sleep(0.01)
