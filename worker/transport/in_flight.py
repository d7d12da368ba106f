"""Which calls run, whose they are, and whether new ones are taken. Belongs to one event loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from common.errors import Reason, Unavailable

__all__ = ["InFlight"]


@final
class InFlight:
    """Counts calls in and out, and tells whoever waits for a change."""

    def __init__(self) -> None:
        self._of_router: Counter[str] = Counter()
        self._num_calls = 0
        self._num_generations = 0
        self._draining = False
        self._closed = False
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"InFlight({self._num_calls}, {'draining' if self._draining else 'serving'})"

    @property
    def num_calls(self) -> int:
        """Calls that run now."""
        return self._num_calls

    @property
    def draining(self) -> bool:
        """Whether new calls are refused."""
        return self._draining

    @property
    def closed(self) -> bool:
        """Whether the server is about to go, and streams of reports should end."""
        return self._closed

    def num_calls_of(self, router_id: str) -> int:
        """Calls that run now and were sent by that router process."""
        return self._of_router[router_id]

    @contextmanager
    def call(self, router_id: str, *, joins: bool = False) -> Iterator[None]:
        """Counts one call while it runs. Raises `Unavailable(DRAINING)` when none is taken any more, unless it `joins`
        a generation that was taken before.
        """
        if self._closed or (self._draining and not joins):
            raise Unavailable("this worker is draining; ask another", reason=Reason.DRAINING)
        self._num_calls += 1
        self._of_router[router_id] += 1
        self._tell()
        try:
            yield
        finally:
            self._num_calls -= 1
            self._of_router[router_id] -= 1
            if not self._of_router[router_id]:
                del self._of_router[router_id]
            self._tell()

    @contextmanager
    def generation(self) -> Iterator[None]:
        """Counts a generation that does not hang on a call while it runs: `empty` waits for it as well."""
        self._num_generations += 1
        try:
            yield
        finally:
            self._num_generations -= 1
            self._tell()

    def drain(self) -> None:
        """Refuses new calls from now on."""
        self._draining = True
        self._tell()

    def close(self) -> None:
        """Refuses new calls and ends the streams of reports."""
        self._draining = self._closed = True
        self._tell()

    async def changed(self, timeout_s: float) -> None:
        """Returns after the next change, or after `timeout_s` without one."""
        changed = self._changed
        try:
            async with asyncio.timeout(timeout_s):
                await changed.wait()
        except TimeoutError:
            return

    async def empty(self, timeout_s: float) -> bool:
        """Waits until no call and no generation runs; False when `timeout_s` passed first."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._num_calls or self._num_generations:
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
