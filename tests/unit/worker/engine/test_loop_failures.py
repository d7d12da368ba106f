"""The engine thread when things go wrong: failing steps, bad answers, a crash, a stop, a thread that is stuck."""

from __future__ import annotations

import asyncio

import pytest

from common.clock import SystemClock
from common.errors import Internal, Reason, Unavailable
from tests.support.engine import PROMPT, ids_of, make_request, read_all, running, until
from tests.support.fake_runner import FakeRunner, fake_completion
from tests.support.manual_clock import ManualClock
from tests.support.patience import PATIENCE_S
from worker.engine.config import EngineConfig
from worker.engine.events import EndEvent, Event, FailedEvent
from worker.engine.loop import EngineLoop
from worker.engine.ports import Batch, Sampled


def error_of(events: list[Event]) -> Reason:
    last = events[-1]
    assert isinstance(last, FailedEvent)
    return last.error.reason


async def test_a_failing_step_fails_its_batch_and_nobody_else() -> None:
    runner = FakeRunner(num_slots=2)
    async with running(runner) as engine:
        with runner.hold():
            runner.fail_next(RuntimeError("device lost"))
            streams = [engine.submit(make_request()) for _ in range(5)]
        stories = [await read_all(stream) for stream in streams]
        assert engine.healthy
    failed = [story for story in stories if isinstance(story[-1], FailedEvent)]
    assert 1 <= len(failed) <= 2
    for story in failed:
        assert error_of(story) is Reason.ENGINE_FAILED
        assert isinstance(story[-1], FailedEvent)
        assert "device lost" not in story[-1].error.message, "the inside stays inside"
    for story in stories:
        if story not in failed:
            assert ids_of(story) == fake_completion(PROMPT, num_tokens=5)
    assert len(runner.released_ids) == 5


async def test_steps_that_fail_in_a_row_make_it_unhealthy_until_one_succeeds() -> None:
    runner = FakeRunner()
    async with running(runner, EngineConfig(failed_steps_max=2)) as engine:
        runner.fail_next(RuntimeError("device lost"), steps=2)
        await read_all(engine.submit(make_request()))
        assert engine.healthy
        await read_all(engine.submit(make_request()))
        assert not engine.healthy
        await read_all(engine.submit(make_request()))
        assert engine.healthy


async def test_a_step_that_never_ends_makes_it_unhealthy() -> None:
    clock = ManualClock()
    runner = FakeRunner()
    async with running(runner, EngineConfig(step_ms_max=100, step_late_s_max=5), clock) as engine:
        with runner.hold():
            stream = engine.submit(make_request())
            await asyncio.to_thread(runner.wait_entered)
            clock.advance(5.05)
            assert engine.healthy
            clock.advance(0.1)
            assert not engine.healthy
        await read_all(stream)
        assert engine.healthy, "it was only slow"


async def test_a_row_that_is_not_finite_fails_alone() -> None:
    runner = FakeRunner()
    runner.poison(choice=1)
    async with running(runner) as engine:
        events = await read_all(engine.submit(make_request(n=3)))
    bad = [event for event in events if event.choice == 1]
    assert error_of(bad) is Reason.MODEL_OUTPUT_INVALID
    for choice in (0, 2):
        assert ids_of(events, choice) == fake_completion(PROMPT, choice=choice, num_tokens=5)


async def test_an_answer_that_misses_a_sequence_fails_the_batch() -> None:
    class Forgetful(FakeRunner):
        def run(self, batch: Batch) -> list[Sampled]:
            return super().run(batch)[1:]

    async with running(Forgetful()) as engine:
        assert error_of(await read_all(engine.submit(make_request()))) is Reason.ENGINE_FAILED


async def test_a_crash_of_the_loop_fails_every_stream_and_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that run, those that wait, those still in the mailbox: all end, and what is new is refused."""
    runner = FakeRunner(num_slots=1)

    def broken(now: float) -> None:
        raise KeyError("a bug")

    async with running(runner) as engine:
        with runner.hold():
            streams = [engine.submit(make_request(max_tokens=50))]
            await asyncio.to_thread(runner.wait_entered)
            streams += [engine.submit(make_request()), engine.submit(make_request(n=2))]
            monkeypatch.setattr(engine._scheduler, "expire", broken)
        stories = [await read_all(stream) for stream in streams]
        assert not engine.healthy
        with pytest.raises(Internal) as refused:
            engine.submit(make_request())
        assert refused.value.reason is Reason.ENGINE_FAILED
        async with asyncio.timeout(PATIENCE_S):
            await engine.drained()
    assert all(error_of(story) is Reason.ENGINE_FAILED for story in stories)
    assert len([event for event in stories[2] if isinstance(event, FailedEvent)]) == 2


async def test_a_release_that_fails_harms_nobody() -> None:
    class Clinging(FakeRunner):
        def release(self, sequence: object) -> None:
            raise ValueError("no")

    async with running(Clinging()) as engine:
        for _ in range(2):
            assert isinstance((await read_all(engine.submit(make_request())))[-1], EndEvent)
        assert engine.healthy


async def test_stop_ends_what_is_unfinished_with_draining() -> None:
    runner = FakeRunner(num_slots=1)
    engine = EngineLoop(runner, EngineConfig(), SystemClock())
    engine.start()
    with runner.hold():
        streams = [engine.submit(make_request(max_tokens=50)), engine.submit(make_request())]
        await asyncio.to_thread(runner.wait_entered)
        stopping = asyncio.ensure_future(engine.stop())
        await until(lambda: engine._mailbox._is_closed)
    await stopping
    stories = [await read_all(stream) for stream in streams]
    assert [error_of(story) for story in stories] == [Reason.DRAINING, Reason.DRAINING]
    assert len(ids_of(stories[0])) == 1, "the running step was still delivered"
    assert not engine.healthy
    with pytest.raises(Unavailable):
        engine.submit(make_request())
    await engine.stop()


async def test_stop_does_not_wait_for_ever_and_drops_late_output() -> None:
    runner = FakeRunner()
    engine = EngineLoop(runner, EngineConfig(stop_s_max=0.01), SystemClock())
    engine.start()
    with runner.hold():
        stream = engine.submit(make_request())
        await asyncio.to_thread(runner.wait_entered)
        async with asyncio.timeout(PATIENCE_S):
            await engine.stop()
        events = await read_all(stream)
        assert [error_of(events), len(events)] == [Reason.DRAINING, 1]
    await until(lambda: not engine.healthy)
    assert await stream.next() == (), "a choice ends once"


async def test_stop_before_start_is_harmless_and_submit_says_starting() -> None:
    engine = EngineLoop(FakeRunner(), EngineConfig(), SystemClock())
    assert not engine.healthy
    with pytest.raises(Unavailable) as refused:
        engine.submit(make_request())
    assert refused.value.reason is Reason.STARTING
    await engine.stop()


def test_the_thread_ends_when_its_event_loop_is_gone() -> None:
    """Nobody stopped the engine and the event loop was closed below it: it ends by itself."""
    runner = FakeRunner()

    async def leave_behind() -> EngineLoop:
        engine = EngineLoop(runner, EngineConfig(), SystemClock())
        engine.start()
        engine.submit(make_request(max_tokens=50))
        await asyncio.to_thread(runner.wait_entered)
        return engine

    with runner.hold():
        engine = asyncio.run(leave_behind())
    engine._thread.join(10)
    assert not engine.healthy
    assert len(runner.batches) <= 2
