"""The task between tokenizer and engine: what it asks first, what it notes when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from common.clock import SystemClock
from common.errors import Overloaded, Reason
from tests.support.engine import make_request, running
from tests.support.fake_runner import FakeRunner
from tests.support.grammars import grammar_compiler
from tests.support.worker import ByteTokenizer
from worker.engine.config import EngineConfig
from worker.engine.loop import EngineLoop, TokenStream
from worker.engine.request import EngineRequest
from worker.engine.sampling_params import SamplingParams
from worker.tasks.api import Done, GenerateRequest, ModelFacts, Output, Piece, TextPrompt, Timeline
from worker.tasks.generate import GenerateTask
from worker.tasks.tokenizer_pool import TokenizerPool


class CountingTokenizer(ByteTokenizer):
    def __init__(self) -> None:
        self.num_prompts = 0

    def encode(self, text: str) -> list[int]:
        self.num_prompts += 1
        return super().encode(text)


class EagerEngine:
    """An engine whose thread has begun a request before `submit` returns."""

    def __init__(self, engine: EngineLoop, runner: FakeRunner) -> None:
        self._engine = engine
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def submit(self, request: EngineRequest) -> TokenStream:
        stream = self._engine.submit(request)
        self._runner.wait_entered()
        return stream


def a_request() -> GenerateRequest:
    return GenerateRequest(
        request_id="r",
        prompt=TextPrompt("abc"),
        sampling=SamplingParams(),
        n=1,
        max_tokens=3,
        max_tokens_default=3,
        min_tokens=0,
        stop_strings=(),
        stop_ids=frozenset(),
        ignore_eos=False,
        salt=b"",
        priority=0,
        arrived_at=SystemClock().now(),
        deadline=SystemClock().now() + 30,
    )


@asynccontextmanager
async def task_on(engine: Any, tokenizer: ByteTokenizer) -> AsyncIterator[GenerateTask]:
    pool = TokenizerPool(tokenizer, threads=1, waiting_max=1)
    model = ModelFacts(
        name="fake",
        revision="",
        context_length=64,
        vocab_size=256,
        eos_ids=frozenset(),
        fingerprint="",
    )
    try:
        yield GenerateTask(
            model=model,
            tokenizers=pool,
            grammars=grammar_compiler(None),
            engine=engine,
            clock=SystemClock(),
        )
    finally:
        await asyncio.to_thread(pool.close)


async def outputs_of(
    task: GenerateTask, timeline: Timeline, request: GenerateRequest | None = None
) -> list[Output]:
    batches = [batch async for batch in task.run(request or a_request(), timeline)]
    return [output for batch in batches for output in batch]


async def test_a_request_is_never_scheduled_before_it_was_submitted() -> None:
    """However late the event loop comes back: times in metrics and traces must not be negative."""
    runner = FakeRunner()
    timeline = Timeline(arrived_at=SystemClock().now())
    async with (
        running(runner) as engine,
        task_on(EagerEngine(engine, runner), ByteTokenizer()) as task,
    ):
        outputs = await outputs_of(task, timeline)
    assert isinstance(outputs[-1], Done)
    assert timeline.submitted_at is not None
    assert timeline.scheduled_at is not None
    assert timeline.submitted_at <= timeline.scheduled_at


async def test_nothing_is_tokenized_for_a_queue_that_is_full() -> None:
    runner, tokenizer = FakeRunner(num_slots=1), CountingTokenizer()
    async with (
        running(runner, EngineConfig(waiting_sequences_max=1)) as engine,
        task_on(engine, tokenizer) as task,
    ):
        with runner.hold():
            engine.submit(make_request())
            await asyncio.to_thread(runner.wait_entered)
            engine.submit(make_request())
            with pytest.raises(Overloaded) as full:
                await outputs_of(task, Timeline(arrived_at=0.0))
    assert full.value.reason is Reason.QUEUE_FULL
    assert tokenizer.num_prompts == 0


async def test_a_stop_string_inside_a_draft_ends_the_answer_where_it_ends_without() -> None:
    request = replace(
        a_request(),
        prompt=TextPrompt("one two three "),
        max_tokens=40,
        stop_strings=("o three o", "ree one t"),
    )
    answers = []
    for num_drafted in (0, 32):
        runner = FakeRunner(
            keeps_decoded=True,
            num_drafted=num_drafted,
            tokens=lambda sequence, at: sequence.prompt_ids[at % len(sequence.prompt_ids)],
        )
        async with running(runner) as engine, task_on(engine, ByteTokenizer()) as task:
            outputs = await outputs_of(task, Timeline(arrived_at=0.0), request)
        pieces = [output for output in outputs if isinstance(output, Piece)]
        ids = [token_id for piece in pieces for token_id in piece.token_ids]
        answers.append(("".join(piece.text for piece in pieces), ids, pieces[-1].end))
    assert any(batch.drafts for batch in runner.batches)
    assert answers[0] == answers[1]
    assert answers[0][0] == "one tw"
