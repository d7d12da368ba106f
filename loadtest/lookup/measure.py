"""Decoding given answers, with lookup and without, in turns.

The model computes as always, and the sampler draws; then the given token takes the place of what was drawn. So weights
may be random, and what an answer repeats is known and the same for both.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import numpy.typing as npt

from loadtest.engines.lepton import LeptonEngine
from loadtest.lookup.texts import Text
from worker.engine.ports import Sampled
from worker.engine.sequence import Sequence
from worker.runtime.sampler import Sampler

__all__ = ["Figure", "measure", "say"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One text at one number of streams in one round."""

    kind: str
    streams: int
    round: int
    off: float
    """Tokens per second of all streams together, without lookup."""
    on: float
    """The same with it."""
    off_itl_ms_p99: float
    on_itl_ms_p99: float
    num_drafted: int
    num_accepted: int

    @property
    def gain(self) -> float:
        return self.on / self.off


def measure(
    engines: dict[bool, LeptonEngine],
    make: Callable[[str, int, int], list[Text]],
    *,
    kinds: SequenceOf[str],
    streams: SequenceOf[int],
    rounds: int,
    progress: Callable[[str], None],
) -> list[Figure]:
    """`engines`: with lookup (True) and without. `make(kind, streams, round)` gives the texts. Round 0 warms up."""
    figures = []
    for number in range(rounds + 1):
        for kind in kinds:
            for num in streams:
                progress(f"round {number} of {rounds}: {kind}, {num} streams")
                texts = make(kind, num, number)
                found = {}
                for is_on in (True, False) if number % 2 else (False, True):
                    say(engines[is_on], texts)
                    found[is_on] = engines[is_on].decode(
                        [text.prompt for text in texts], len(texts[0].answer)
                    )
                drafted, accepted = engines[True].drafted
                if number:
                    figures.append(
                        Figure(
                            kind=kind,
                            streams=num,
                            round=number,
                            off=found[False].tokens_per_s,
                            on=found[True].tokens_per_s,
                            off_itl_ms_p99=found[False].itl_ms_p99,
                            on_itl_ms_p99=found[True].itl_ms_p99,
                            num_drafted=drafted,
                            num_accepted=accepted,
                        )
                    )
    return figures


def say(engine: LeptonEngine, texts: list[Text]) -> None:
    """From now on the engine answers these prompts with these answers."""
    engine.runner.sampler = _Script(texts)


@final
class _Script(Sampler):
    """Draws, and then says what it was given."""

    def __init__(self, texts: list[Text]) -> None:
        super().__init__()
        self._answers = {tuple(text.prompt): text.answer for text in texts}

    def sample(
        self,
        logits: npt.NDArray[np.float32],
        sequences: SequenceOf[Sequence],
        *,
        best: npt.NDArray[np.int64] | None = None,
    ) -> list[Sampled]:
        return [
            replace(one, token_id=self._answers[one.sequence.prompt_ids][len(one.sequence.generated_ids)])
            for one in super().sample(logits, sequences, best=best)
        ]  # fmt: skip
