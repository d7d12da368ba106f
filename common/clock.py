"""Time as a dependency: the only module that touches `time` and `asyncio.sleep`.

Everything that waits or measures takes a `Clock`, so that a test can hand in a `ManualClock` and turn
thirty seconds into none.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol, final

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What code that waits or measures needs of time."""

    def now(self) -> float:
        """Seconds on a monotonic clock; only differences mean anything."""
        ...

    def wall(self) -> float:
        """Seconds since 1970 (UTC); for records that people or other machines read, never for waits."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns after `seconds`; cancellation passes through."""
        ...


@final
class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()  # noqa: TID251 - the one place

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # noqa: TID251 - the one place
