"""The engine thread as its users see it: streams, refusals, aborts, deadlines, load, drain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from common.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    Reason,
    Unavailable,
)
from tests.support.engine import PROMPT, ids_of, make_request, read_all, running, until
from tests.support.fake_runner import FakeRunner, fake_completion, fake_token
from tests.support.manual_clock import ManualClock
from tests.support.patience import PATIENCE_S
from worker.engine.config import EngineConfig
from worker.engine.events import EndEvent, Event, FailedEvent, ScheduledEvent, TokenEvent
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import FinishReason, StopRule


async def test_a_choice_is_scheduled_gets_tokens_and_ends() -> None:
    async with running(FakeRunner()) as engine:
        events = await read_all(engine.submit(make_request(max_tokens=5)))
    assert isinstance(events[0], ScheduledEvent)
    assert all(isinstance(event, TokenEvent) for event in events[1:-1])
    assert ids_of(events) == fake_completion(PROMPT, num_tokens=5)
    assert isinstance(events[-1], EndEvent)
    assert events[-1].reason is FinishReason.LENGTH
    assert events[-1].stop_token_id is None
    assert [e.at for e in events] == sorted(e.at for e in events)


async def test_next_after_the_end_returns_nothing_for_ever() -> None:
    async with running(FakeRunner()) as engine:
        stream = engine.submit(make_request())
        await read_all(stream)
        assert await stream.next() == ()
        assert await stream.next() == ()


async def test_neighbours_that_come_and_go_change_no_token() -> None:
    """More streams than slots, all lengths; each gets what it would get alone."""
    runner = FakeRunner(num_slots=3, capacity=128)
    config = EngineConfig(chunk_tokens_min=4, chunk_tokens_first=8, chunk_tokens_max=8)
    async with running(runner, config) as engine:
        prompts = [tuple(range(1, 2 + 5 * (i % 7))) for i in range(20)]
        streams = [
            engine.submit(make_request(prompt, max_tokens=4 + i % 9))
            for i, prompt in enumerate(prompts)
        ]
        for i, (prompt, stream) in enumerate(zip(prompts, streams, strict=True)):
            assert ids_of(await read_all(stream)) == fake_completion(prompt, num_tokens=4 + i % 9)
    assert max(len(batch.decode) for batch in runner.batches) == 3


async def test_every_choice_of_a_request_has_its_own_story() -> None:
    async with running(FakeRunner(num_slots=2)) as engine:
        stream = engine.submit(make_request(n=3, max_tokens=4))
        assert stream.n == 3
        events = await read_all(stream)
    for choice in range(3):
        story = [event for event in events if event.choice == choice]
        assert isinstance(story[0], ScheduledEvent)
        assert ids_of(story, choice) == fake_completion(PROMPT, choice=choice, num_tokens=4)
        assert isinstance(story[-1], EndEvent)


async def test_an_eos_ends_the_choice_and_is_named() -> None:
    eos = fake_token(PROMPT, 0, 2)
    async with running(FakeRunner()) as engine:
        stop = StopRule(max_tokens=9, eos_ids=frozenset({eos}))
        events = await read_all(engine.submit(make_request(stop=stop)))
    assert ids_of(events) == fake_completion(PROMPT, num_tokens=3)
    assert isinstance(events[-1], EndEvent)
    assert (events[-1].reason, events[-1].stop_token_id) == (FinishReason.STOP, eos)


async def test_min_tokens_bans_the_end() -> None:
    eos = fake_token(PROMPT, 0, 1)
    async with running(FakeRunner()) as engine:
        stop = StopRule(max_tokens=4, min_tokens=4, eos_ids=frozenset({eos}))
        events = await read_all(engine.submit(make_request(stop=stop)))
    assert len(ids_of(events)) == 4
    assert eos not in ids_of(events)


async def test_logprobs_travel_with_the_token() -> None:
    async with running(FakeRunner()) as engine:
        events = await read_all(engine.submit(make_request(sampling=SamplingParams(logprobs=2))))
    tokens = [event for event in events if isinstance(event, TokenEvent)]
    assert all(token.logprob == -0.5 and len(token.top) == 2 for token in tokens)


async def test_one_hand_off_per_step_for_all_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = FakeRunner(num_slots=4)
    hand_offs = 0
    event_loop = asyncio.get_running_loop()
    call_soon_threadsafe = event_loop.call_soon_threadsafe

    def counted(callback: Callable[[], None], *args: object) -> asyncio.Handle:
        nonlocal hand_offs
        hand_offs += 1
        return call_soon_threadsafe(callback, *args)  # type: ignore[arg-type]

    async with running(runner) as engine:
        monkeypatch.setattr(event_loop, "call_soon_threadsafe", counted)
        streams = [engine.submit(make_request(max_tokens=6)) for _ in range(4)]
        for stream in streams:
            await read_all(stream)
        monkeypatch.undo()
    assert hand_offs == len(runner.batches)


async def test_a_reader_that_was_cancelled_loses_nothing() -> None:
    runner = FakeRunner()
    async with running(runner) as engine:
        with runner.hold():
            stream = engine.submit(make_request())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await stream.next()
        events = await read_all(stream)
    assert ids_of(events) == fake_completion(PROMPT, num_tokens=5)


async def test_a_slow_reader_holds_up_nobody() -> None:
    """One stream is never read; the other one ends, and the events of the first are still there."""
    async with running(FakeRunner()) as engine:
        slow = engine.submit(make_request(max_tokens=20))
        await read_all(engine.submit(make_request(max_tokens=40)))
        await until(lambda: slow.has_ended)
        assert len(await slow.next()) == 22


async def test_abort_while_it_runs_frees_the_slot_within_a_step() -> None:
    runner = FakeRunner(num_slots=1)
    async with running(runner) as engine:
        with runner.hold():
            doomed = engine.submit(make_request(max_tokens=50))
            await asyncio.to_thread(runner.wait_entered)
            engine.abort(doomed)
            engine.abort(doomed)
            waiting = engine.submit(make_request((9,)))
        events = await read_all(doomed)
        assert ids_of(await read_all(waiting)) == fake_completion((9,), num_tokens=5)
    assert len(ids_of(events)) == 1, "the step that ran"
    assert isinstance(events[-1], FailedEvent)
    assert isinstance(events[-1].error, Cancelled)
    assert len(runner.released_ids) == 2


async def test_abort_while_it_waits_never_computes_it() -> None:
    runner = FakeRunner(num_slots=1)
    async with running(runner) as engine:
        with runner.hold():
            first = engine.submit(make_request())
            await asyncio.to_thread(runner.wait_entered)
            doomed = engine.submit(make_request())
            engine.abort(doomed)
        events = await read_all(doomed)
        await read_all(first)
    assert [type(event) for event in events] == [FailedEvent]
    assert len(runner.released_ids) == 1


async def test_abort_of_one_choice_leaves_the_others() -> None:
    runner = FakeRunner()
    async with running(runner) as engine:
        with runner.hold():
            stream = engine.submit(make_request(n=2))
            await asyncio.to_thread(runner.wait_entered)
            engine.abort(stream, choice=0)
        events = await read_all(stream)
    assert len(ids_of(events, 0)) == 1
    assert ids_of(events, 1) == fake_completion(PROMPT, choice=1, num_tokens=5)


async def test_abort_after_the_end_does_nothing() -> None:
    async with running(FakeRunner()) as engine:
        stream = engine.submit(make_request())
        events = await read_all(stream)
        engine.abort(stream)
        assert isinstance(events[-1], EndEvent)
        assert await stream.next() == ()


async def test_a_deadline_ends_what_runs_and_what_waits() -> None:
    clock = ManualClock(now=0.0)
    runner = FakeRunner(num_slots=1, clock=clock, step_s=lambda _: 1.0)
    async with running(runner, clock=clock) as engine:
        runs = engine.submit(make_request(max_tokens=50, deadline=3.0))
        waits = engine.submit(make_request(deadline=2.5))
        late = engine.submit(make_request(deadline=-1.0))
        for stream, num_tokens in ((runs, 3), (waits, 0), (late, 0)):
            events = await read_all(stream)
            assert len(ids_of(events)) == num_tokens
            assert isinstance(events[-1], FailedEvent)
            assert isinstance(events[-1].error, DeadlineExceeded)


async def test_a_full_queue_refuses_with_a_hint_and_takes_again_later() -> None:
    runner = FakeRunner(num_slots=1)
    async with running(runner, EngineConfig(waiting_sequences_max=2)) as engine:
        with runner.hold():
            streams = [engine.submit(make_request())]
            await asyncio.to_thread(runner.wait_entered)
            streams += [engine.submit(make_request()), engine.submit(make_request())]
            with pytest.raises(Overloaded) as refused:
                engine.submit(make_request())
        assert refused.value.reason is Reason.QUEUE_FULL
        assert refused.value.retry_after_s is not None
        assert 0 < refused.value.retry_after_s <= 30
        for stream in streams:
            assert isinstance((await read_all(stream))[-1], EndEvent)
        assert isinstance((await read_all(engine.submit(make_request())))[-1], EndEvent)


async def test_waiting_tokens_are_bounded_too_but_a_single_request_always_fits() -> None:
    runner = FakeRunner(num_slots=1)
    async with running(runner, EngineConfig(waiting_tokens_max=4)) as engine:
        with runner.hold():
            first = engine.submit(make_request())
            await asyncio.to_thread(runner.wait_entered)
            alone = engine.submit(make_request(tuple(range(10))))
            with pytest.raises(Overloaded):
                engine.submit(make_request((1,)))
        await read_all(first)
        assert isinstance((await read_all(alone))[-1], EndEvent)


async def test_what_does_not_fit_into_a_slot_is_refused() -> None:
    async with running(FakeRunner(capacity=8)) as engine:
        with pytest.raises(InvalidRequest) as refused:
            engine.submit(make_request(max_tokens=6))
        assert refused.value.reason is Reason.PROMPT_TOO_LONG
        events = await read_all(engine.submit(make_request(max_tokens=5)))
    assert len(ids_of(events)) == 5


async def test_an_engine_without_work_rests_once_and_goes_on_afterwards() -> None:
    runner = FakeRunner()
    async with running(runner, EngineConfig(rest_after_s=0.01)) as engine:
        first = ids_of(await read_all(engine.submit(make_request(max_tokens=5))))
        assert await asyncio.to_thread(runner.rested.wait, PATIENCE_S)
        runner.rested.clear()
        assert not await asyncio.to_thread(runner.rested.wait, 0.1), "once is enough"
        assert ids_of(await read_all(engine.submit(make_request(max_tokens=5)))) == first
        assert await asyncio.to_thread(runner.rested.wait, PATIENCE_S)
    assert not runner.violations


async def test_an_engine_that_has_work_does_not_rest() -> None:
    runner = FakeRunner()
    async with running(runner, EngineConfig(rest_after_s=0.01)) as engine:
        with runner.hold():
            stream = engine.submit(make_request(max_tokens=5))
            await asyncio.to_thread(runner.wait_entered)
            assert not await asyncio.to_thread(runner.rested.wait, 0.1)
        assert len(ids_of(await read_all(stream))) == 5


@pytest.mark.parametrize("linger_ms", [60_000, 0])
async def test_a_stream_that_goes_on_here_keeps_the_step_for_the_next_one(linger_ms: int) -> None:
    """The second is sent when the first has proved itself, as the router does; a neighbour decodes all the time."""
    runner = FakeRunner(capacity=20_000)
    config = EngineConfig(linger_ms=linger_ms)
    completion = fake_completion(PROMPT, num_tokens=8)
    continued = replace(make_request(max_tokens=8), known_ids={0: tuple(completion[:5])})
    async with running(runner, config) as engine:
        neighbour = engine.submit(make_request(max_tokens=10_000))
        for _ in range(3):
            stream = engine.submit(continued)
            first: tuple[Event, ...] = ()
            while not any(isinstance(event, TokenEvent) for event in first):
                first = await stream.next()
            num_batches = len(runner.batches)
            await read_all(engine.submit(make_request(max_tokens=1)))
            assert ids_of([*first, *await read_all(stream)]) == completion[5:]
            if linger_ms:
                (chunk,) = runner.batches[num_batches].prefill
                assert not chunk.sequence.is_continued, "it is in the very next step"
        engine.abort(neighbour)


async def test_load_counts_and_foretells_the_end_of_the_step() -> None:
    clock = ManualClock()
    runner = FakeRunner(num_slots=2, capacity=10)
    async with running(runner, EngineConfig(step_ms_max=80), clock) as engine:
        idle = engine.load()
        assert (idle.step, idle.step_ends_in_ms, idle.running, idle.waiting) == (0, None, 0, 0)
        assert (idle.rows_max, idle.kv_usage) == (2, 0.0)
        with runner.hold():
            streams = [engine.submit(make_request())]
            await asyncio.to_thread(runner.wait_entered)
            streams += [engine.submit(make_request()) for _ in range(3)]
            busy = engine.load()
            assert (busy.running, busy.waiting, busy.waiting_tokens) == (1, 3, 9)
            assert busy.step_ends_in_ms == 80
            clock.advance(0.03)
            assert engine.load().step_ends_in_ms == 50
            clock.advance(9)
            late = engine.load()
            assert (late.step_ends_in_ms, late.step) == (0, 0)
        for stream in streams:
            await read_all(stream)
        after = engine.load()
        assert (after.running, after.waiting, after.waiting_tokens, after.kv_usage) == (0, 0, 0, 0)
        assert after.step == len(runner.batches)
        assert after.step_ends_in_ms is None


async def test_an_idle_engine_sleeps() -> None:
    """After the work its thread waits on the condition: no step, no turn, no processor time."""
    runner = FakeRunner()
    async with running(runner) as engine:
        await read_all(engine.submit(make_request()))
        mailbox = engine._mailbox._changed
        await until(lambda: len(mailbox._waiters) == 1)  # type: ignore[attr-defined]
        num_batches = len(runner.batches)
        await read_all(engine.submit(make_request((4, 5))))
        assert len(runner.batches) > num_batches, "and wakes up again"


async def test_an_observer_sees_each_step_and_cannot_break_it() -> None:
    class Observer:
        def __init__(self) -> None:
            self.steps: list[tuple[float, int, int]] = []

        def on_step(
            self, *, duration_s: float, num_prefill_tokens: int, num_decode_rows: int
        ) -> None:
            self.steps.append((duration_s, num_prefill_tokens, num_decode_rows))
            raise ValueError("observers may be wrong")

        def on_drafts(self, *, num_drafted: int, num_accepted: int) -> None: ...
        def on_preemption(self) -> None: ...

    observer = Observer()
    clock = ManualClock()
    runner = FakeRunner(clock=clock, step_s=lambda _: 0.5)
    async with running(runner, clock=clock, observer=observer) as engine:
        events = await read_all(engine.submit(make_request(max_tokens=3)))
    assert len(ids_of(events)) == 3
    assert observer.steps == [(0.5, 3, 0), (0.5, 0, 1), (0.5, 0, 1)]


async def test_drain_finishes_what_it_has_and_refuses_the_rest() -> None:
    runner = FakeRunner(num_slots=1)
    async with running(runner) as engine:
        with runner.hold():
            streams = [engine.submit(make_request()), engine.submit(make_request())]
            engine.drain()
            with pytest.raises(Unavailable) as refused:
                engine.submit(make_request())
            assert refused.value.reason is Reason.DRAINING
        async with asyncio.timeout(PATIENCE_S):
            await engine.drained()
        for stream in streams:
            assert stream.has_ended
            assert isinstance((await read_all(stream))[-1], EndEvent)
        assert engine.healthy


async def test_who_would_not_wait_that_long_is_refused_and_the_others_go_on() -> None:
    """Asked between steps: the first has the row, the second stops waiting, the third is patient."""
    clock = ManualClock()
    runner = FakeRunner(num_slots=1, clock=clock, step_s=lambda _: 1.0)
    async with running(runner, clock=clock) as engine:
        with runner.hold():
            first = engine.submit(make_request(max_tokens=5))
            await asyncio.to_thread(runner.wait_entered)
            hasty = engine.submit(make_request(max_tokens=5, start_by=clock.now() + 2.5))
            patient = engine.submit(make_request(max_tokens=5, start_by=clock.now() + 100.0))
        (refusal,) = await read_all(hasty)
        assert isinstance(refusal, FailedEvent)
        assert isinstance(refusal.error, Overloaded)
        assert refusal.error.reason is Reason.QUEUE_TIMEOUT
        assert refusal.error.retry_after_s is not None
        for stream in (first, patient):
            assert ids_of(await read_all(stream)) == fake_completion(PROMPT, num_tokens=5)


async def test_who_does_not_wait_at_all_gets_a_row_that_is_free() -> None:
    clock = ManualClock()
    async with running(FakeRunner(), clock=clock) as engine:
        events = await read_all(engine.submit(make_request(start_by=clock.now())))
    assert isinstance(events[-1], EndEvent)


async def test_a_request_of_which_a_choice_has_begun_is_not_refused_any_more() -> None:
    clock = ManualClock()
    runner = FakeRunner(num_slots=1, clock=clock, step_s=lambda _: 1.0)
    async with running(runner, clock=clock) as engine:
        events = await read_all(engine.submit(make_request(n=3, start_by=clock.now() + 0.5)))
    assert [event.choice for event in events if isinstance(event, EndEvent)] == [0, 1, 2]


async def test_a_full_queue_can_be_seen_before_there_is_a_prompt() -> None:
    runner = FakeRunner(num_slots=1)
    async with running(runner, EngineConfig(waiting_sequences_max=2)) as engine:
        engine.check_room(n=8)
        with runner.hold():
            engine.submit(make_request())
            await asyncio.to_thread(runner.wait_entered)
            engine.submit(make_request())
            engine.check_room(n=1)
            with pytest.raises(Overloaded) as full:
                engine.check_room(n=2)
            assert full.value.reason is Reason.QUEUE_FULL
        engine.drain()
        with pytest.raises(Unavailable) as draining:
            engine.check_room(n=1)
        assert draining.value.reason is Reason.DRAINING
