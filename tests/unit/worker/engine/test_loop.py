"""The engine thread as its users see it: streams, load, drain, stop, crash."""

from __future__ import annotations

import asyncio

from common.clock import SystemClock
from tests.support.fake_runner import FakeRunner, fake_completion
from worker.engine.config import EngineConfig
from worker.engine.events import EndEvent, Event, ScheduledEvent, TokenEvent
from worker.engine.loop import EngineLoop
from worker.engine.request import EngineRequest
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import FinishReason, StopRule
from worker.engine.stream import TokenStream


def request(prompt=(1, 2, 3), *, max_tokens=5, n=1, **more) -> EngineRequest:
    return EngineRequest(
        prompt_ids=tuple(prompt),
        sampling=SamplingParams(),
        stop=StopRule(max_tokens=max_tokens),
        n=n,
        **more,
    )


async def read(stream: TokenStream) -> list[Event]:
    events: list[Event] = []
    async with asyncio.timeout(10):
        while step := await stream.next():
            events += step
    return events


async def test_a_request_becomes_scheduled_tokens_end():
    runner = FakeRunner()
    engine = EngineLoop(runner, EngineConfig(), SystemClock())
    engine.start()
    try:
        events = await read(engine.submit(request()))
    finally:
        await engine.stop()
    assert isinstance(events[0], ScheduledEvent)
    assert [e.token_id for e in events if isinstance(e, TokenEvent)] == fake_completion(
        (1, 2, 3), num_tokens=5
    )
    assert isinstance(events[-1], EndEvent)
    assert events[-1].reason is FinishReason.LENGTH
    assert not runner.violations
