"""Waiting for events with a bound, on an injected clock."""

from __future__ import annotations

import asyncio

from common.clock import Clock

__all__ = ["happens_within", "one_happens_within"]


async def happens_within(event: asyncio.Event, seconds: float, clock: Clock) -> bool:
    """Returns whether `event` is set, as soon as it is and after `seconds` at the latest."""
    return await one_happens_within((event,), seconds, clock)


async def one_happens_within(
    events: tuple[asyncio.Event, ...], seconds: float, clock: Clock
) -> bool:
    """Returns whether any of `events` is set, as soon as one is and after `seconds` at the latest."""
    if any(event.is_set() for event in events) or seconds <= 0:
        return any(event.is_set() for event in events)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(event.wait()) for event in events]
        timer = group.create_task(clock.sleep(seconds))
        try:
            await asyncio.wait({*tasks, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, timer):
                task.cancel()
    return any(event.is_set() for event in events)
