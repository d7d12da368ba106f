"""Tokens in company against tokens alone, teacher-forced: every position is compared under the same past.

    alone      one request after the other, greedy                    → reference tokens t₀ t₁ … and their leads
    company    the same requests, so many rows at a time; whatever a step draws, the row goes on with the reference

A *mismatch* is a position at which company draws another token than the reference has. As the past of every position is
the reference's, one close call does not spoil the rest of its answer, and the rate has a meaning of its own. The first
mismatch of a request is where a free answer would have *diverged*: until then both had the same past anyway.

The *lead* is by how much the reference's token was more likely than the second, in nats: the closer, the easier turned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace
from statistics import median
from typing import final

from common.clock import SystemClock
from worker.engine.config import EngineConfig
from worker.engine.events import FailedEvent, TokenEvent
from worker.engine.loop import EngineLoop
from worker.engine.ports import Batch, CacheLayout, ModelRunner, Sampled
from worker.engine.request import EngineRequest
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import Sequence, StopRule

__all__ = ["Mismatches", "Reference", "compare", "engine_for", "reference_of"]

Prompt = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a request gets alone."""

    prompt: Prompt
    tokens: tuple[int, ...]
    leads: tuple[float, ...]
    """Nats between the most likely token and the second, by position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatches:
    """What company changed."""

    rows: int
    """Most requests at a time."""
    requests: int
    positions: int
    """Compared."""
    mismatches: int
    firsts: tuple[int, ...]
    """Of each request that has any, the tokens before its first."""
    lead_at_mismatch: float | None
    """Median, nats; None without any."""
    lead: float
    """Median over all positions."""

    @property
    def per_10_000(self) -> float:
        """Mismatches per 10,000 tokens."""
        return 1e4 * self.mismatches / self.positions

    @property
    def diverged(self) -> float:
        """Share of the requests that would have got another answer, 0 to 1."""
        return len(self.firsts) / self.requests

    @property
    def tokens_until(self) -> float | None:
        """Of those, median number of tokens before the answers part."""
        return median(self.firsts) if self.firsts else None


def reference_of(
    runner: ModelRunner, prompts: SequenceOf[Prompt], *, tokens: int, eos_ids: frozenset[int]
) -> list[Reference]:
    """Greedy answers of at most `tokens` tokens, each computed alone. Prompts must differ and fit."""
    if len(set(prompts)) < len(prompts):
        raise ValueError("the same prompt comes twice")
    stop = StopRule(max_tokens=tokens, eos_ids=eos_ids)
    return asyncio.run(_references(runner, prompts, stop))


def compare(runner: ModelRunner, references: SequenceOf[Reference], *, rows: int) -> Mismatches:
    """The same requests, at most `rows` at a time: as one ends the next takes its place."""
    teacher = _Teacher(runner, references, rows)
    asyncio.run(_all_at_once(teacher, references))
    found = {key: at for key, at in teacher.wrong.items() if at}
    turned = [r.leads[at] for r in references for at in found.get(r.prompt, ())]
    return Mismatches(
        rows=rows,
        requests=len(references),
        positions=teacher.num_compared,
        mismatches=len(turned),
        firsts=tuple(min(at) for at in found.values()),
        lead_at_mismatch=median(turned) if turned else None,
        lead=median(lead for reference in references for lead in reference.leads),
    )


@final
class _Teacher:
    """A runner that notes what was drawn and answers with the reference."""

    def __init__(self, runner: ModelRunner, references: SequenceOf[Reference], rows: int) -> None:
        self._runner = runner
        self._answers = {reference.prompt: reference.tokens for reference in references}
        self.layout: CacheLayout = replace(runner.layout, num_slots=rows)
        self.num_compared = 0
        self.wrong: dict[Prompt, list[int]] = {prompt: [] for prompt in self._answers}

    def run(self, batch: Batch) -> list[Sampled]:
        return [self._forced(sampled) for sampled in self._runner.run(batch)]

    def rest(self) -> None:
        self._runner.rest()

    def release(self, sequence: Sequence) -> None:
        self._runner.release(sequence)

    def _forced(self, sampled: Sampled) -> Sampled:
        prompt, at = sampled.sequence.prompt_ids, len(sampled.sequence.generated_ids)
        expected = self._answers[prompt][at]
        self.num_compared += 1
        if sampled.token_id != expected:
            self.wrong[prompt].append(at)
        return replace(sampled, token_id=expected)


async def _references(
    runner: ModelRunner, prompts: SequenceOf[Prompt], stop: StopRule
) -> list[Reference]:
    engine = engine_for(runner, len(prompts))
    try:
        return [await _answer(engine, prompt, stop) for prompt in prompts]
    finally:
        await engine.stop()


async def _all_at_once(runner: ModelRunner, references: SequenceOf[Reference]) -> None:
    engine = engine_for(runner, len(references))
    try:
        async with asyncio.TaskGroup() as group:
            for reference in references:
                stop = StopRule(max_tokens=len(reference.tokens))
                group.create_task(_answer(engine, reference.prompt, stop))
    finally:
        await engine.stop()


def engine_for(runner: ModelRunner, num_requests: int) -> EngineLoop:
    """An engine that runs, whose queue holds so many requests."""
    config = EngineConfig(waiting_sequences_max=num_requests, waiting_tokens_max=1 << 30)
    engine = EngineLoop(runner, config, SystemClock())
    engine.start()
    return engine


async def _answer(engine: EngineLoop, prompt: Prompt, stop: StopRule) -> Reference:
    """Nothing is shared between prompts: what is known already would not be computed."""
    stream = engine.submit(
        EngineRequest(prompt_ids=prompt, sampling=SamplingParams(logprobs=2), stop=stop, salt=None)
    )
    tokens, leads = [], []
    while events := await stream.next():
        for event in events:
            if isinstance(event, FailedEvent):
                raise event.error
            if isinstance(event, TokenEvent):
                first, second = event.top
                tokens.append(event.token_id)
                leads.append(first.logprob - second.logprob)
    return Reference(prompt=prompt, tokens=tuple(tokens), leads=tuple(leads))
