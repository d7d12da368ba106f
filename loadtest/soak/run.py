"""Rounds of random calls; after each the worker falls quiet and is looked at.

A round has connections of its own, which end with it: who comes and goes must leave nothing behind. *Quiet* means that
files and tasks are as few as after the first round; a worker that does not get there in time holds something back.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cli.client import Client
from common.clock import Clock
from common.errors import LeptonError
from loadtest.soak.flat import Point
from loadtest.soak.mix import Wish, constrained_wish, random_wish
from loadtest.soak.process import ObservedWorker, Vitals

__all__ = ["Soak", "run_rounds"]

QUIET_S_MAX: Final = 15.0
QUIET_POLL_S: Final = 0.05
CALLERS_PER_CONNECTION: Final = 8


@dataclass(slots=True)
class Soak:
    """What was seen."""

    points: list[Point] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    """Promises that were broken: a call without its end, a reason that was not there, something left behind."""
    first: Vitals | None = None
    """After the first round."""
    last: Vitals | None = None
    requests: int = 0
    seconds: float = 0.0


async def run_rounds(
    worker: ObservedWorker,
    clock: Clock,
    *,
    seed: int,
    requests: int,
    callers: int,
    go_on: Callable[[Soak], bool],
    on_round: Callable[[Soak], None],
) -> Soak:
    """Rounds of `requests` calls by `callers` at once until `go_on` says no, or three promises are broken."""
    soak, rng, began = Soak(), random.Random(seed), clock.now()
    async with Client(worker.address) as client:
        await _call(client, constrained_wish(), soak)  # starts the process that tries constraints
    soak.outcomes.clear()
    while go_on(soak) and len(soak.faults) < 3:
        await _round(worker.address, soak, rng, requests=requests, callers=callers)
        vitals = await _quiet(worker, soak, clock)
        soak.first, soak.last = soak.first or vitals, vitals
        soak.requests += requests
        soak.seconds = clock.now() - began
        soak.points.append(Point(soak.requests, vitals.rss))
        on_round(soak)
    return soak


async def _round(
    address: str, soak: Soak, rng: random.Random, *, requests: int, callers: int
) -> None:
    wishes = iter([random_wish(rng) for _ in range(requests)])

    async def call_on(client: Client) -> None:
        for wish in wishes:
            await _call(client, wish, soak)

    async def connect(num_callers: int) -> None:
        async with Client(address) as client, asyncio.TaskGroup() as group:
            for _ in range(num_callers):
                group.create_task(call_on(client))

    async with asyncio.TaskGroup() as group:
        for first in range(0, callers, CALLERS_PER_CONNECTION):
            group.create_task(connect(min(CALLERS_PER_CONNECTION, callers - first)))


async def _call(client: Client, wish: Wish, soak: Soak) -> None:
    """One call to its end; notes what became of it, and whether that may be."""
    answer = client.generate(wish.request, timeout_s=wish.timeout_s)
    seqs: list[int] = []
    ends, is_finished = 0, False
    try:
        async for event in answer:
            seqs.append(event.seq)
            ends += event.HasField("delta") and event.delta.HasField("end")
            is_finished |= event.HasField("finished")
            if wish.cancel_after is not None and len(seqs) > wish.cancel_after:
                await answer.cancel()
                soak.outcomes["cancelled"] += 1
                return
    except LeptonError as error:
        soak.outcomes[error.reason.value] += 1
        if error.reason not in wish.may_fail:
            soak.faults.append(
                f"ended with {error.reason} after {len(seqs)} events of a call with {wish.timeout_s:g} s: "
                f"{error.message}"
            )
        return
    soak.outcomes["answered"] += 1
    if wish.must_fail:
        soak.faults.append(f"answered what must be refused: {wish.request}")
    if not is_finished or ends != wish.request.sampling.n or seqs != list(range(len(seqs))):
        soak.faults.append(f"not whole: {ends} ends, finished {is_finished}, seqs {seqs}")


async def _quiet(worker: ObservedWorker, soak: Soak, clock: Clock) -> Vitals:
    """The vitals once nothing is left of the round; after `QUIET_S_MAX` as they are, and that is a fault."""
    gc.collect()  # ours: connections end with the last object that knows of them
    deadline = clock.now() + QUIET_S_MAX
    before: Vitals | None = None
    while True:
        vitals = await worker.vitals()
        if soak.first is None:
            settled = before is not None and (before.files, before.tasks) == (
                vitals.files,
                vitals.tasks,
            )
        else:
            settled = vitals.files <= soak.first.files and vitals.tasks <= soak.first.tasks
        if settled:
            return vitals
        if clock.now() > deadline:
            soak.faults.append(
                f"left behind after a round: {vitals}, after the first: {soak.first}"
            )
            return vitals
        before = vitals
        await clock.sleep(QUIET_POLL_S)
