"""An event loop whose time jumps to the next timer instead of waiting for it: minutes cost milliseconds.

Nothing in it may touch a socket or another thread; what runs is then a pure function of its seeds.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar, final

__all__ = ["VirtualClock", "run_virtually"]

T = TypeVar("T")


@final
class _Jumps(selectors.SelectSelector):
    """Asked to wait, it moves the loop's time on instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everybody waits, and no timer will ever wake anybody")
        self.now += max(0.0, timeout)
        return []


@final
class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumps = _Jumps()
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.now


@final
class VirtualClock:
    """The `Clock` of such a loop, seconds since it began."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        return self._loop.time()

    def wall(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # noqa: TID251 - the loop's own time, which is virtual


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, on a virtual loop. Raises RuntimeError when nothing can happen any more."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(main)
