"""Numbers of one run."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, quantiles
from typing import Final

from loadtest.sim.ledger import REFUSALS, faults_of
from loadtest.sim.oracle import cacheable_tokens
from loadtest.sim.world import World

__all__ = ["SLO_FIRST_S", "Numbers", "measure"]

SLO_FIRST_S: Final = 2.0
"""An answer counts as good when it is whole and its first token came within so many seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Shares are of all requests of the run, 0 to 1."""

    good: float
    refused: float
    lost: float
    """Accepted, and ended with an error."""
    hits: float
    """Prompt tokens from caches, over those of an all-knowing cluster."""
    imbalance: float
    """Work of the busiest worker over the mean."""
    amplification: float
    """Attempts per request."""
    first_p99_s: float
    faults: tuple[str, ...]
    """What may never happen."""


def measure(world: World) -> Numbers:
    """Of a world whose run is over."""
    answers = world.answers
    num = len(answers)
    good = sum(
        a.is_whole and a.first_at is not None and a.first_at - a.asked_at <= SLO_FIRST_S
        for a in answers
    )
    refused = sum(
        a.error is not None and not a.spans and a.error.reason in REFUSALS for a in answers
    )
    lost = sum(a.error is not None for a in answers) - refused
    firsts = [a.first_at - a.asked_at for a in answers if a.first_at is not None]
    work = [worker.tokens_done for worker in world.workers]
    possible = cacheable_tokens(a.ask for a in answers)
    return Numbers(
        good=good / num,
        refused=refused / num,
        lost=lost / num,
        hits=sum(w.tokens_cached for w in world.workers) / possible if possible else 1.0,
        imbalance=max(work) / fmean(work) if any(work) else 1.0,
        amplification=sum(a.attempts for a in answers) / num,
        first_p99_s=quantiles(firsts, n=100)[98] if len(firsts) > 1 else 0.0,
        faults=(*faults_of(answers), *world.faults()),
    )
