"""Answers that are cut and go on in company, as on a worker that takes over from another, against answers left alone.

    alone      one request after the other, greedy                         → reference tokens t₀ t₁ …
    continued  the first k of them are known; the rest is drawn freely, so many requests at a time

What is known is computed again. ONNX Runtime's operators also draw it again: a *replay mismatch* is a draw that
differed. An answer *parted* when any token behind the cut is another one. The mode `exact` and our own operators must
show neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

from loadtest.mismatch.measure import Reference, engine_for
from worker.engine.events import FailedEvent, ReplayedEvent, TokenEvent
from worker.engine.loop import EngineLoop
from worker.engine.ports import ModelRunner
from worker.engine.request import EngineRequest
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import StopRule

__all__ = ["Continued", "go_on"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Continued:
    """What became of the answers behind a cut."""

    cut: int
    """Tokens that were known of each."""
    requests: int
    """Answers that are longer than that."""
    replay_mismatches: int
    parted: int
    """Answers that went on otherwise than alone."""

    @property
    def replay_per_10_000(self) -> float:
        """Replay mismatches per 10,000 tokens that were known; 0 where nothing was cut."""
        return 1e4 * self.replay_mismatches / (self.cut * self.requests) if self.requests else 0.0


def go_on(
    runner: ModelRunner, references: SequenceOf[Reference], *, cut: int, eos_ids: frozenset[int]
) -> Continued:
    """Cuts every answer behind `cut` tokens (at least 1) and lets all of them go on at once, as far as rows last."""
    return asyncio.run(_go_on(runner, references, cut, eos_ids))


async def _go_on(
    runner: ModelRunner, references: SequenceOf[Reference], cut: int, eos_ids: frozenset[int]
) -> Continued:
    longer = [reference for reference in references if len(reference.tokens) > cut]
    engine = engine_for(runner, len(references))
    try:
        found = await asyncio.gather(*(_rest(engine, one, cut, eos_ids) for one in longer))
    finally:
        await engine.stop()
    return Continued(
        cut=cut,
        requests=len(longer),
        replay_mismatches=sum(mismatches for mismatches, _ in found),
        parted=sum(rest != one.tokens[cut:] for one, (_, rest) in zip(longer, found, strict=True)),
    )


async def _rest(
    engine: EngineLoop, reference: Reference, cut: int, eos_ids: frozenset[int]
) -> tuple[int, tuple[int, ...]]:
    """Replay mismatches, and the tokens behind the cut."""
    stream = engine.submit(
        EngineRequest(
            prompt_ids=reference.prompt,
            sampling=SamplingParams(),
            stop=StopRule(max_tokens=len(reference.tokens), eos_ids=eos_ids),
            salt=None,
            known_ids={0: reference.tokens[:cut]},
        )
    )
    mismatches, tokens = 0, []
    while events := await stream.next():
        for event in events:
            match event:
                case FailedEvent():
                    raise event.error
                case ReplayedEvent():
                    mismatches = event.num_mismatches
                case TokenEvent():
                    tokens.append(event.token_id)
    return mismatches, tuple(tokens)
