"""Waiting for an event with a bound, on an injected clock."""

from __future__ import annotations

import asyncio

from common.clock import Clock

__all__ = ["happens_within"]


async def happens_within(event: asyncio.Event, seconds: float, clock: Clock) -> bool:
    """Returns whether `event` is set, as soon as it is and after `seconds` at the latest."""
    if event.is_set() or seconds <= 0:
        return event.is_set()
    async with asyncio.TaskGroup() as group:
        happened = group.create_task(event.wait())
        timer = group.create_task(clock.sleep(seconds))
        try:
            await asyncio.wait({happened, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            happened.cancel()
            timer.cancel()
    return event.is_set()
