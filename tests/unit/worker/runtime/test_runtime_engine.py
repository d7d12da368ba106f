"""The real engine on the real runner: what a request gets does not depend on who else is there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.clock import SystemClock
from tests.support.grammars import compiled, regex
from tests.support.half import in_half
from tests.support.manual_clock import ManualClock
from tests.support.quantized import in_blocks
from tests.support.stepped_engine import SteppedEngine, Token, alone_on, tokens_of
from tests.support.tiny_models import (
    NEEDS_NATIVE,
    TINY_LLAMA,
    TINY_LLAMA_INT4,
    TINY_LLAMA_INT4_BLOCK64,
    TINY_OPTIMUM,
    TINY_QWEN2,
    golden_cases,
    load_tiny,
)
from worker.engine.config import EngineConfig
from worker.engine.events import Event, ScheduledEvent, TokenEvent
from worker.engine.loop import EngineLoop
from worker.engine.request import EngineRequest
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import StopRule
from worker.kernels.library import Kernels
from worker.runtime.grammar.tokens import token_table
from worker.runtime.mode import Mode
from worker.runtime.model import load_model
from worker.runtime.phased import PhasedForward

Kernelled = tuple[Path, Kernels]
KERNELS = [
    pytest.param((TINY_LLAMA, "portable"), id="fp32-portable"),
    pytest.param((TINY_LLAMA_INT4, "portable"), id="int4-portable"),
    pytest.param((TINY_OPTIMUM[0], "portable"), id="optimum"),
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


FORMS: dict[str, Callable[[], tuple[Path, bool, Kernels]]] = {
    "llama-fp32": lambda: (TINY_LLAMA, False, "portable"),
    "llama-int4": lambda: (TINY_LLAMA_INT4, False, "portable"),
    "llama-int4-prefill-int8": lambda: (TINY_LLAMA_INT4, True, "portable"),
    "llama-int4-block128-as-int8": lambda: (in_blocks(TINY_LLAMA, 128), True, "portable"),
    "qwen2-fp32": lambda: (TINY_QWEN2, False, "portable"),
    "qwen2-int4": lambda: (in_blocks(TINY_QWEN2, 32), False, "portable"),
    "qwen2-int4-prefill-int8": lambda: (in_blocks(TINY_QWEN2, 32), True, "portable"),
    "qwen2-int4-block128-as-int8": lambda: (in_blocks(TINY_QWEN2, 128), True, "portable"),
    "optimum-gpt2-fp32": lambda: (TINY_OPTIMUM[1], False, "auto"),
}
"""Model folder, `prefill_int8`, `kernels`."""
NATIVE_FORMS: dict[str, Callable[[], tuple[Path, bool, Kernels]]] = {
    "llama-fp32-native": lambda: (TINY_LLAMA, False, "native"),
    "llama-int4-native": lambda: (TINY_LLAMA_INT4, False, "native"),
    "llama-int4-avx2": lambda: (TINY_LLAMA_INT4, False, "avx2"),
    "qwen2-int4-block128-native": lambda: (in_blocks(TINY_QWEN2, 128), False, "native"),
}
ROWS = 32


class Visit:
    """One request among others."""

    def __init__(self, engine: SteppedEngine, request: EngineRequest) -> None:
        self.request = request
        self.stream = engine.submit(request)
        self.events: list[Event] = []
        self.was_aborted = False

    @property
    def num_cached(self) -> int:
        return sum(e.num_cached_tokens for e in self.events if isinstance(e, ScheduledEvent))

    def tokens(self) -> list[list[Token]]:
        return tokens_of(self.events, self.request.n)


def in_company(
    engine: SteppedEngine, targets: list[EngineRequest], *, neighbours: int, rng: random.Random
) -> list[Visit]:
    """Asks the targets one after the other, each beside so many others, who join and leave at random steps.

    The targets come twice, so that their beginnings are known the second time.
    """
    waiting, target = [*targets, *targets], None
    visits: list[Visit] = []
    while waiting or (target is not None and not target.stream.has_ended):
        if target is None or (target.stream.has_ended and rng.random() < 0.5):
            target = Visit(engine, waiting.pop(0))
            visits.append(target)
        others = [v for v in visits if v is not target and not v.stream.has_ended]
        rows = sum(v.request.n for v in others)
        while rows < neighbours:
            request = replace(make_request(rng, rng.randrange(4)), n=1)
            visit = Visit(engine, replace(request, salt=rng.choice((b"", None, None))))
            visits.append(visit)
            others.append(visit)
            rows += 1
        if rng.random() < 0.3:
            leaver = rng.choice(others)
            leaver.was_aborted = True
            engine.abort(leaver.stream)
        engine.step()
        for visit in visits:
            visit.events += engine.read(visit.stream)
    ended = [visit for visit in visits if visit.stream.has_ended]
    for visit in visits:
        engine.abort(visit.stream)
    engine.step()
    assert engine.is_idle
    return ended


def differences(
    folder: Path,
    counts: tuple[int, ...] = (1, 2, 9, 31),
    *,
    prefill_int8: bool,
    mode: Mode = "exact",
    many_from: int | None = None,
    kernels: Kernels = "portable",
    on_device: bool = False,
) -> list[str]:
    """Requests that got other tokens, or other bits of a log-probability, in company than alone."""
    options: dict[str, Any] = {"prefill_int8": prefill_int8, "mode": mode, "kernels": kernels}
    options["on_device"] = on_device
    one = load_tiny(folder, rows_max=1, **options).runner
    many = load_tiny(folder, rows_max=ROWS, prefix_cache_mib=1, **options).runner
    for runner in (one, many):
        if isinstance(runner.forward, PhasedForward):
            runner.forward.many_from = many_from
    rng, found = random.Random(17), []
    alone = alone_on(one)
    targets = [
        replace(
            make_request(rng, kind),
            prompt_ids=tuple(rng.randrange(300) for _ in range(size)),
            n=(1, 1, 3)[kind % 3],
        )
        for kind, size in enumerate((2, 17, 33, 66, 110))
    ]
    num_cached = 0
    for neighbours in counts:
        # Prompts whole where the number is odd, in small pieces otherwise.
        config = EngineConfig() if neighbours % 2 else CONFIG
        engine = SteppedEngine(many, config, ManualClock())
        for visit in in_company(engine, targets, neighbours=neighbours, rng=rng):
            num_cached += visit.num_cached
            for got, expected in zip(visit.tokens(), alone(visit.request), strict=True):
                if got != (expected[: len(got)] if visit.was_aborted else expected):
                    found.append(f"{neighbours} neighbours: {visit.request}")
    assert num_cached, "beginnings were found"
    return found


@pytest.mark.parametrize(
    "form", [*FORMS, *(pytest.param(form, marks=NEEDS_NATIVE) for form in NATIVE_FORMS)]
)
def test_company_changes_no_token_and_no_bit_of_a_logprob(form: str) -> None:
    folder, prefill_int8, kernels = (FORMS | NATIVE_FORMS)[form]()
    assert differences(folder, prefill_int8=prefill_int8, kernels=kernels) == []


@pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
def test_company_changes_nothing_in_fp16_wherever_keys_and_values_are(on_device: bool) -> None:
    """Rows that move, beginnings out of the cache, choices that share a prompt: the device copies all of it. What a
    GPU's libraries make of company is another matter (`test_runtime_gpu`); here the CPU computes.
    """
    mode: Mode = "fast" if on_device else "exact"
    folder = in_half(TINY_LLAMA)
    assert differences(folder, (2, 9), prefill_int8=False, mode=mode, on_device=on_device) == []


@pytest.mark.parametrize("family", [TINY_LLAMA, TINY_QWEN2], ids=["llama", "qwen2"])
def test_fast_changes_them(family: Path) -> None:
    """Negative controls: large blocks as they are stored, and another form of the weights from two rows on."""
    assert differences(in_blocks(family, 128), (3,), prefill_int8=False, mode="fast")
    assert differences(in_blocks(family, 32), (3,), prefill_int8=True, mode="fast", many_from=2)


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


@pytest.mark.parametrize("form", KERNELS)
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


@NEEDS_NATIVE
@pytest.mark.parametrize("folder", [TINY_LLAMA, TINY_LLAMA_INT4], ids=["fp32", "int4"])
async def test_a_second_turn_goes_on_from_decoded_tokens_without_a_bit_of_difference(
    folder: Path,
) -> None:
    rng = random.Random(29)
    plain = EngineLoop(load_tiny(folder, kernels="native").runner, CONFIG, SystemClock())
    keeping = EngineLoop(
        load_model(folder, name="tiny", threads=1, rows_max=6, prefix_cache_mib=4).runner,
        CONFIG,
        SystemClock(),
    )
    plain.start()
    keeping.start()
    try:
        for kind in range(8):
            first = replace(
                make_request(rng, kind),
                prompt_ids=tuple(rng.randrange(300) for _ in range(rng.randint(5, 60))),
                stop=StopRule(max_tokens=90),
                n=1,
            )
            answer = [token_id for token_id, _ in (await collect(keeping, first))[0]]
            second = replace(
                first, prompt_ids=(*first.prompt_ids, *answer, 7, 8, 9), stop=StopRule(max_tokens=9)
            )
            cached: list[int] = []
            found = await collect(keeping, second, cached=cached)
            known = len(first.prompt_ids) + len(answer) - 1  # the last token was never computed
            assert cached == [known // 32 * 32]
            assert found == await collect(plain, replace(second, salt=None))
    finally:
        await plain.stop()
        await keeping.stop()


@pytest.mark.parametrize("folder", [TINY_LLAMA, TINY_OPTIMUM[0]], ids=["shared-rows", "growing"])
async def test_choices_draw_from_one_prompt(folder: Path) -> None:
    """Each of them answers what transformers answers, and the prompt is computed once."""
    computed: list[int] = []

    class Observer:
        def on_step(
            self, *, duration_s: float, num_prefill_tokens: int, num_decode_rows: int
        ) -> None:
            computed.append(num_prefill_tokens)

        def on_drafts(self, *, num_drafted: int, num_accepted: int) -> None: ...

        def on_preemption(self) -> None:
            raise AssertionError("nobody else is there")

    engine = EngineLoop(load_tiny(folder).runner, CONFIG, SystemClock(), observer=Observer())
    engine.start()
    cases = golden_cases(folder.parent.name)
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
