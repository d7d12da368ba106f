"""The real engine on the real runner: what a request gets does not depend on who else is there."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest

from common.clock import SystemClock
from tests.support.grammars import compiled, regex
from tests.support.tiny_models import (
    NEEDS_NATIVE,
    TINY_LLAMA,
    TINY_LLAMA_INT4,
    TINY_LLAMA_INT4_BLOCK64,
    golden_cases,
    load_tiny,
)
from worker.engine.config import EngineConfig
from worker.engine.events import ScheduledEvent, TokenEvent
from worker.engine.loop import EngineLoop
from worker.engine.request import EngineRequest
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import StopRule
from worker.runtime.grammar.tokens import token_table
from worker.runtime.model import load_model
from worker.runtime.session import Kernels

Kernelled = tuple[Path, Kernels]
FORMS = [
    pytest.param((TINY_LLAMA, "portable"), id="fp32-portable"),
    pytest.param((TINY_LLAMA_INT4, "portable"), id="int4-portable"),
    pytest.param((TINY_LLAMA, "native"), id="fp32-native", marks=NEEDS_NATIVE),
    pytest.param((TINY_LLAMA_INT4, "native"), id="int4-native", marks=NEEDS_NATIVE),
    pytest.param((TINY_LLAMA_INT4_BLOCK64, "native"), id="int4-block64-native", marks=NEEDS_NATIVE),
]
Tokens = dict[int, list[tuple[int, float | None]]]
CONFIG = EngineConfig(chunk_tokens_min=4, chunk_tokens_first=24, chunk_tokens_max=40)


def make_request(rng: random.Random, kind: int) -> EngineRequest:
    samplings = (
        SamplingParams(logprobs=0),
        SamplingParams(temperature=0.9, top_p=0.9, seed=rng.getrandbits(64), logprobs=1),
        SamplingParams(temperature=1.3, top_k=30, seed=7, repetition_penalty=1.2, logprobs=0),
        SamplingParams(frequency_penalty=0.8, presence_penalty=0.2, logprobs=0),
    )
    return EngineRequest(
        prompt_ids=tuple(rng.randrange(300) for _ in range(rng.choice((1, 2, 3, 17, 33, 65, 110)))),
        sampling=samplings[kind % len(samplings)],
        stop=StopRule(max_tokens=rng.randint(1, 30), min_tokens=2, eos_ids=frozenset({2, 5, 9})),
        n=rng.choice((1, 1, 3)),
    )


async def collect(
    engine: EngineLoop,
    request: EngineRequest,
    leave_after: int | None = None,
    cached: list[int] | None = None,
) -> Tokens:
    """The tokens of each choice; `cached` gets the tokens that each did not compute."""
    stream = engine.submit(request)
    tokens: Tokens = {choice: [] for choice in range(request.n)}
    while events := await stream.next():
        for event in events:
            if isinstance(event, ScheduledEvent) and cached is not None:
                cached.append(event.num_cached_tokens)
            if isinstance(event, TokenEvent):
                tokens[event.choice].append((event.token_id, event.logprob))
        if leave_after is not None and sum(map(len, tokens.values())) >= leave_after:
            engine.abort(stream)
            leave_after = None
    return tokens


@pytest.mark.parametrize("form", FORMS)
async def test_company_changes_no_token_and_no_bit_of_a_logprob(form: Kernelled) -> None:
    rng = random.Random(17)
    requests = [make_request(rng, kind) for kind in range(24)]
    engine = EngineLoop(load_tiny(form[0], kernels=form[1]).runner, CONFIG, SystemClock())
    engine.start()
    try:
        alone = [await collect(engine, request) for request in requests]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(collect(engine, request)) for request in requests]
            for request in requests[::3]:  # some who leave early
                group.create_task(collect(engine, request, leave_after=2))
    finally:
        await engine.stop()
    assert [task.result() for task in tasks] == alone
    assert all(tokens for answer in alone for tokens in answer.values())


@pytest.mark.parametrize("folder", [TINY_LLAMA, TINY_LLAMA_INT4], ids=["fp32", "int4"])
async def test_constrained_company_changes_no_token_and_no_bit_of_a_logprob(folder: Path) -> None:
    """Of those without a constraint, and of those with one."""
    rng = random.Random(29)
    model = load_tiny(folder)
    eos_ids = frozenset({2, 5, 9})
    table = token_table(
        model.tokenizer.vocabulary, vocab_size=model.info.vocab_size, eos_ids=eos_ids
    )
    assert table is not None
    plain = [make_request(rng, kind) for kind in range(8)]
    bound = [
        replace(
            request := make_request(rng, kind),
            stop=replace(request.stop, min_tokens=0, eos_ids=eos_ids),
            grammar=compiled(regex(r"([a-z]{1,8} ?){3,9}[.!]"), table),
        )
        for kind in range(8)
    ]
    engine = EngineLoop(model.runner, CONFIG, SystemClock())
    engine.start()
    try:
        alone = [await collect(engine, request) for request in (*plain, *bound)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(collect(engine, request)) for request in (*plain, *bound)]
    finally:
        await engine.stop()
    assert [task.result() for task in tasks] == alone
    texts = {model.tokenizer.decode([t for t, _ in row]) for a in alone[8:] for row in a.values()}
    assert all(set(text) <= set("abcdefghijklmnopqrstuvwxyz .!") for text in texts)


async def test_the_engine_answers_what_transformers_answers() -> None:
    engine = EngineLoop(load_tiny(TINY_LLAMA).runner, CONFIG, SystemClock())
    engine.start()
    cases = golden_cases("tiny-llama")
    try:
        answers = await asyncio.gather(
            *(
                collect(
                    engine,
                    EngineRequest(
                        prompt_ids=tuple(case["prompt_ids"]),
                        sampling=SamplingParams(),
                        stop=StopRule(max_tokens=len(case["greedy_ids"])),
                    ),
                )
                for case in cases
            )
        )
    finally:
        await engine.stop()
    for case, answer in zip(cases, answers, strict=True):
        assert [token_id for token_id, _ in answer[0]] == case["greedy_ids"]


@pytest.mark.parametrize("form", FORMS)
async def test_a_known_beginning_changes_no_token_and_no_bit_of_a_logprob(form: Kernelled) -> None:
    """Shared beginnings of every length, a cache that is too small for all of them, and company."""
    rng = random.Random(23)
    beginnings = [tuple(rng.randrange(300) for _ in range(150)) for _ in range(3)]
    requests = [
        replace(
            request := make_request(rng, kind),
            prompt_ids=beginnings[kind % 3][: rng.randint(20, 150)] + request.prompt_ids[:60],
            stop=replace(request.stop, max_tokens=8),
        )
        for kind in range(40)
    ]
    folder, kernels = form
    plain = EngineLoop(load_tiny(folder, kernels=kernels).runner, CONFIG, SystemClock())
    keeping = EngineLoop(
        load_model(
            folder,
            name="tiny",
            threads=1,
            rows_max=6,
            prefix_cache_mib=1,
            prefill_int8=False,
            kernels=kernels,
        ).runner,
        CONFIG,
        SystemClock(),
    )
    plain.start()
    keeping.start()
    try:
        expected = [await collect(plain, replace(request, salt=None)) for request in requests]
        cached: list[int] = []
        answers = [await collect(keeping, request, cached=cached) for request in requests]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(collect(keeping, request)) for request in requests]
    finally:
        await plain.stop()
        await keeping.stop()
    assert answers == expected
    assert [task.result() for task in tasks] == expected
    assert len(set(cached)) > 3, "beginnings of several lengths were found"


async def test_choices_draw_from_one_prompt() -> None:
    """Each of them answers what transformers answers, and the prompt is computed once."""
    computed: list[int] = []

    class Observer:
        def on_step(
            self, *, duration_s: float, num_prefill_tokens: int, num_decode_rows: int
        ) -> None:
            computed.append(num_prefill_tokens)

    engine = EngineLoop(load_tiny(TINY_LLAMA).runner, CONFIG, SystemClock(), observer=Observer())
    engine.start()
    cases = golden_cases("tiny-llama")
    try:
        for case in cases:
            answer = await collect(
                engine,
                EngineRequest(
                    prompt_ids=tuple(case["prompt_ids"]),
                    sampling=SamplingParams(logprobs=0),
                    stop=StopRule(max_tokens=len(case["greedy_ids"])),
                    n=4,
                ),
            )
            assert [token_id for token_id, _ in answer[0]] == case["greedy_ids"]
            assert all(answer[choice] == answer[0] for choice in range(4))
    finally:
        await engine.stop()
    assert sum(computed) == sum(len(case["prompt_ids"]) for case in cases)
