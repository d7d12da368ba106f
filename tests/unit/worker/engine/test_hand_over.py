"""From the engine thread to the event loop, and who goes first."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.engine import make_request, running
from tests.support.fake_runner import FakeRunner
from tests.support.patience import PATIENCE_S
from worker.engine.config import EngineConfig
from worker.engine.events import TokenEvent
from worker.engine.hand_over import HandOver


async def test_who_waits_goes_on_behind_the_tasks_that_were_woken() -> None:
    over, waits, token, order = HandOver(), asyncio.Event(), asyncio.Event(), list[str]()
    over.open()

    async def reader() -> None:
        waits.set()
        await token.wait()
        order.append("read")

    def thread() -> None:
        over.give(token.set, wait_s=PATIENCE_S)
        order.append("next step")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reader())
        await waits.wait()
        tasks.create_task(asyncio.to_thread(thread))
    assert order == ["read", "next step"]


async def test_an_event_loop_without_time_is_waited_for_no_longer_than_said() -> None:
    over, called = HandOver(), asyncio.Event()
    over.open()
    over.give(called.set, wait_s=0.001)  # on the event loop itself, which therefore cannot take it
    assert not called.is_set()
    async with asyncio.timeout(PATIENCE_S):
        await called.wait()


async def test_who_does_not_wait_goes_on_at_once() -> None:
    over, called = HandOver(), asyncio.Event()
    over.open()
    over.give(called.set)
    assert not called.is_set()
    async with asyncio.timeout(PATIENCE_S):
        await called.wait()


def test_before_it_is_open_nothing_happens_and_a_closed_loop_is_told() -> None:
    over, called = HandOver(), list[int]()
    over.give(lambda: called.append(1), wait_s=PATIENCE_S)
    assert not called

    async def open_it() -> None:
        over.open()

    asyncio.run(open_it())
    with pytest.raises(RuntimeError):
        over.give(lambda: called.append(1), wait_s=PATIENCE_S)


async def test_a_first_token_is_read_before_the_next_step_begins() -> None:
    runner = FakeRunner()
    async with running(runner, EngineConfig(first_token_ms=1e3 * PATIENCE_S)) as engine:
        stream = engine.submit(make_request(max_tokens=5))
        while not any(isinstance(event, TokenEvent) for event in await stream.next()):
            pass
        assert len(runner.batches) == 1
        engine.abort(stream)
