"""Requests whose answers repeat something, and a crowd of them, played with drafts and without.

expected = play(runner_without, visits, config)
assert play(runner_with, visits, config) == expected
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace

from tests.support.fake_runner import fake_token
from tests.support.manual_clock import ManualClock
from tests.support.stepped_engine import SteppedEngine
from worker.engine.config import EngineConfig
from worker.engine.events import Event, ScheduledEvent, TokenEvent
from worker.engine.ports import Batch, ModelRunner, Sampled
from worker.engine.request import EngineRequest
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import Sequence, StopRule
from worker.engine.stopping import banned_ids
from worker.engine.stream import TokenStream

__all__ = ["Counted", "Visit", "echo", "play", "random_visits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A request that comes at some step, and goes when it has read so many tokens, at least one."""

    request: EngineRequest
    step: int
    leaves_after: int | None = None
    """None: it stays to the end."""


class Counted:
    """A runner that moves the clock, by a step and a little more for each position, and counts drafts."""

    def __init__(self, runner: ModelRunner) -> None:
        self._runner = runner
        self.layout = runner.layout
        self.clock = ManualClock()
        self.seen: Counter[str] = Counter()

    def run(self, batch: Batch) -> list[Sampled]:
        self.clock.advance(0.010 + 0.001 * (batch.num_prefill_tokens + batch.num_drafted))
        sampled = self._runner.run(batch)
        self.seen["steps"] += 1
        self.seen["drafted"] += batch.num_drafted
        self.seen["accepted"] += len(sampled) - len(batch.drawing)
        self.seen["saved"] += len(batch.saves)
        return sampled

    def rest(self) -> None:
        self._runner.rest()

    def release(self, sequence: Sequence) -> None:
        self._runner.release(sequence)


def echo(sequence: Sequence, position: int) -> int:
    """For a `FakeRunner`: the prompt again, each choice from another place, and every now and then something else."""
    other = fake_token(
        sequence.prompt_ids,
        sequence.choice,
        position,
        seed=sequence.sampling.seed,
        banned=banned_ids(sequence),
    )
    prompt = sequence.prompt_ids
    again = prompt[(position + 3 * sequence.choice) % len(prompt)]
    return other if other % 8 == 0 or again in banned_ids(sequence) else again


def random_visits(rng: random.Random, num: int, *, room: int) -> list[Visit]:
    """Prompts that share beginnings and repeat themselves, `room` tokens with their answers; every kind of sampling."""
    return [
        Visit(
            request=_request(rng, room),
            step=rng.randrange(3 * num),
            leaves_after=rng.choice((None, None, None, rng.randint(1, room))),
        )
        for _ in range(num)
    ]


def _request(rng: random.Random, room: int) -> EngineRequest:
    period = rng.choice((1, 2, 5, 20, 64))
    start = rng.choice((10, 10, 100))
    prompt = [start + at % period for at in range(rng.randint(1, room - 10))]
    max_tokens = rng.randint(1, room - len(prompt))
    return EngineRequest(
        prompt_ids=tuple(prompt),
        sampling=_sampling(rng),
        stop=StopRule(
            max_tokens=max_tokens,
            min_tokens=rng.randint(0, min(9, max_tokens)),
            eos_ids=rng.choice((frozenset(), frozenset({2, 5, 9}))),
            stop_ids=rng.choice((frozenset(), frozenset(), frozenset({start + 4, 80}))),
        ),
        n=rng.choice((1, 1, 1, 2, 3)),
        salt=rng.choice((b"", b"", b"a", None)),
    )


def _sampling(rng: random.Random) -> SamplingParams:
    few = {10 + at: 30.0 for at in range(3)}
    """With them a real model says the same few tokens again and again, in an order that only the draws know."""
    return rng.choice(
        (
            SamplingParams(),
            SamplingParams(logprobs=2),
            SamplingParams(logit_bias=few, logprobs=1),
            SamplingParams(temperature=0.9, logit_bias=few, seed=rng.getrandbits(64), logprobs=1),
            SamplingParams(temperature=0.7, logit_bias=few, top_p=0.8, seed=rng.getrandbits(64)),
            SamplingParams(
                temperature=0.5, logit_bias=few, seed=3, frequency_penalty=0.3, repetition_penalty=1.1, logprobs=0
            ),
            SamplingParams(logit_bias=few, frequency_penalty=0.4, presence_penalty=0.2, logprobs=3),
        )
    )  # fmt: skip


def play(runner: Counted, visits: list[Visit], config: EngineConfig) -> list[list[list[Event]]]:
    """The events of each choice of each visit, without their times and what the prefix cache knew.

    Of those who leave: as many tokens as they waited for, since what comes between reading and leaving is chance.
    """
    engine = SteppedEngine(runner, config, runner.clock)
    streams: dict[int, TokenStream] = {}
    events: list[list[list[Event]]] = [[[] for _ in range(v.request.n)] for v in visits]
    step = 0
    while len(streams) < len(visits) or not engine.is_idle:
        for number, visit in enumerate(visits):
            if visit.step == step:
                streams[number] = engine.submit(visit.request)
        engine.step()
        step += 1
        for number, stream in streams.items():
            for event in engine.read(stream):
                events[number][event.choice].append(_timeless(event))
            after = visits[number].leaves_after
            if after is not None:
                for choice, found in enumerate(events[number]):
                    if _num_tokens(found) >= after:
                        engine.abort(stream, choice)
    for number, visit in enumerate(visits):
        if visit.leaves_after is not None:
            for found in events[number]:
                del found[1 + visit.leaves_after :]
    return events


def _timeless(event: Event) -> Event:
    if isinstance(event, ScheduledEvent):
        return replace(event, at=0.0, num_cached_tokens=0)
    return replace(event, at=0.0)


def _num_tokens(events: list[Event]) -> int:
    return sum(isinstance(event, TokenEvent) for event in events)
