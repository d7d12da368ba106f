from __future__ import annotations

import asyncio

import pytest

from common.errors import Reason, Unavailable
from worker.transport.in_flight import InFlight


async def test_calls_are_counted_by_router() -> None:
    in_flight = InFlight()
    with in_flight.call("a"), in_flight.call("b"), in_flight.call("a"):
        assert in_flight.num_calls == 3
        assert (in_flight.num_calls_of("a"), in_flight.num_calls_of("b")) == (2, 1)
    assert in_flight.num_calls == in_flight.num_calls_of("a") == 0
    assert await in_flight.empty(0.0)


async def test_draining_refuses_new_calls_and_keeps_old_ones() -> None:
    in_flight = InFlight()
    with in_flight.call("a"):
        in_flight.drain()
        with pytest.raises(Unavailable) as caught, in_flight.call("a"):
            pass
        assert caught.value.reason is Reason.DRAINING
        assert in_flight.num_calls == 1
        assert not await in_flight.empty(0.01)


async def test_whoever_waits_hears_of_a_change() -> None:
    in_flight = InFlight()
    call = in_flight.call("")

    async def enter() -> None:
        call.__enter__()

    async def leave() -> None:
        call.__exit__(None, None, None)

    async def close() -> None:
        in_flight.close()

    async with asyncio.timeout(5):
        await asyncio.gather(in_flight.changed(30), enter())
        emptied, _ = await asyncio.gather(in_flight.empty(30), leave())
        assert emptied
        await asyncio.gather(in_flight.changed(30), close())
    assert in_flight.closed
    assert in_flight.draining


async def test_silence_ends_with_the_timeout() -> None:
    await InFlight().changed(0.001)
