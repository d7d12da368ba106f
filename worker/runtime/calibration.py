"""From how many rows on a decode run is faster with the form of the weights for many positions: measured here and now.

Only in the mode `fast`: a choice by the number of rows makes a token depend on company.
"""

from __future__ import annotations

from typing import Final

from common.clock import Clock
from worker.engine.ports import Batch
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import Sequence, StopRule
from worker.runtime.phased import PhasedForward

__all__ = ["rows_for_many"]

TRIES: Final = 3
"""Runs per form and number of rows; the fastest counts, as a busy machine only ever makes them slower."""


def rows_for_many(forward: PhasedForward, clock: Clock) -> int | None:
    """The least number of rows (a power of two) from which that form has won each time; None when it never does.

    Writes to position 0 of every slot, so it comes before anything is served.
    """
    least = None
    rows = 1
    sizes = []
    while rows <= forward.layout.num_slots:
        sizes.append(rows)
        rows *= 2
    for rows in reversed(sizes):
        if _seconds(forward, clock, rows, many=True) >= _seconds(forward, clock, rows, many=False):
            break
        least = rows
    return least


def _seconds(forward: PhasedForward, clock: Clock, rows: int, *, many: bool) -> float:
    forward.many_from = rows if many else None
    batch = Batch(decode=tuple(_one_token(slot) for slot in range(rows)))
    took = []
    for _ in range(1 + TRIES):
        began = clock.now()
        for _ in forward.compute(batch):
            pass
        took.append(clock.now() - began)
    forward.many_from = None
    return min(took[1:])


def _one_token(slot: int) -> Sequence:
    return Sequence(
        id=-1 - slot,
        choice=0,
        prompt_ids=(0,),
        sampling=SamplingParams(),
        stop=StopRule(max_tokens=1),
        slot=slot,
    )
