"""Requests, a running engine and readers, with good defaults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from common.clock import Clock, SystemClock
from tests.support.fake_runner import FakeRunner
from tests.support.patience import PATIENCE_S
from worker.engine.config import EngineConfig
from worker.engine.events import Event, TokenEvent
from worker.engine.loop import EngineLoop, TokenStream
from worker.engine.observer import StepObserver
from worker.engine.request import EngineRequest
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import Sequence, StopRule

__all__ = ["PROMPT", "ids_of", "make_request", "make_sequence", "read_all", "running", "until"]

PROMPT = (1, 2, 3)


def make_request(
    prompt_ids: tuple[int, ...] = PROMPT,
    *,
    max_tokens: int = 5,
    n: int = 1,
    sampling: SamplingParams | None = None,
    stop: StopRule | None = None,
    deadline: float | None = None,
    start_by: float | None = None,
) -> EngineRequest:
    return EngineRequest(
        prompt_ids=prompt_ids,
        sampling=sampling or SamplingParams(),
        stop=stop or StopRule(max_tokens=max_tokens),
        n=n,
        deadline=deadline,
        start_by=start_by,
    )


@asynccontextmanager
async def running(
    runner: FakeRunner,
    config: EngineConfig | None = None,
    clock: Clock | None = None,
    observer: StepObserver | None = None,
) -> AsyncIterator[EngineLoop]:
    """An engine that is stopped at the end, after which the runner must have nothing to complain about."""
    engine = EngineLoop(runner, config or EngineConfig(), clock or SystemClock(), observer=observer)
    engine.start()
    try:
        yield engine
    finally:
        await engine.stop()
    assert not runner.violations


async def read_all(stream: TokenStream) -> list[Event]:
    """Every event to the end."""
    events: list[Event] = []
    async with asyncio.timeout(PATIENCE_S):
        while step := await stream.next():
            events += step
    return events


async def until(condition: Callable[[], bool]) -> None:
    """Returns when `condition` holds; it is asked again at every turn of the event loop."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            turn = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.001, turn.set_result, None)
            await turn


def ids_of(events: list[Event], choice: int = 0) -> list[int]:
    return [e.token_id for e in events if isinstance(e, TokenEvent) and e.choice == choice]


def make_sequence(
    number: int = 0,
    *,
    prompt_ids: tuple[int, ...] = PROMPT,
    group: int | None = None,
    choice: int = 0,
    seed: int = 0,
    salt: bytes | None = b"",
    stop: StopRule | None = None,
    priority: int = 0,
    deadline: float | None = None,
    start_by: float | None = None,
    known_ids: tuple[int, ...] | None = None,
    known_with_prompt: bool = False,
) -> Sequence:
    """A sequence as the engine makes it; `number` becomes its id. With `known_ids` another worker began it."""
    return Sequence(
        id=number,
        group=group,
        choice=choice,
        prompt_ids=prompt_ids,
        sampling=SamplingParams(seed=seed),
        stop=stop or StopRule(max_tokens=4),
        salt=salt,
        priority=priority,
        deadline=deadline,
        start_by=start_by,
        is_continued=known_ids is not None,
        known_ids=known_ids or (),
        known_with_prompt=known_with_prompt,
    )
