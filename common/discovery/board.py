"""The latest picture, from one follower to one reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from common.discovery.api import Snapshot

__all__ = ["Board"]


class Board:
    """A follower marks that something changed; the reader takes a snapshot when it gets to it.

    Any number of changes between two reads are one snapshot, so a slow reader costs neither memory nor time.
    """

    def __init__(self, take: Callable[[], Snapshot]) -> None:
        self._take = take
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """There is something new to take."""
        self._changed.set()

    async def snapshots(self) -> AsyncGenerator[Snapshot]:
        """A snapshot after each change or group of changes; never ends."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            yield self._take()
