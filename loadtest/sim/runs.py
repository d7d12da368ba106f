"""Which worlds are simulated, by seed, and running them on every core."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from random import Random
from typing import Final

from loadtest.sim.faults import make_faults
from loadtest.sim.measure import Numbers, measure
from loadtest.sim.router import WorldShape
from loadtest.sim.trace import TraceShape, make_trace
from loadtest.sim.virtual_time import run_virtually
from loadtest.sim.worker import Pace
from loadtest.sim.world import World

__all__ = ["GUESSING", "NO_AFFINITY", "Run", "run_seed", "run_seeds"]

COMPARED: Final = 4
"""Policies are compared in every so many-th world; the others only look for broken rules."""
_SIZES: Final = (2, 4, 4, 8, 16, 64, 1000)
"""Workers of a random world; the large ones cost most of the time."""
_ROUTERS: Final = (1, 1, 3)
_ASKS: Final = 400
_ASKS_PER_WORKER_S: Final = 5.5
"""About what such a worker does when nothing is cached."""


NO_AFFINITY: Final = " without affinity"
"""After the name of a policy: prompts that begin alike do not prefer the same worker."""
GUESSING: Final = " guessing"
"""After the name of a policy: workers do not tell what their caches hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One simulated world."""

    seed: int
    policy: str
    """One of the router's, or with `NO_AFFINITY` or `GUESSING` behind it."""
    workers: int
    routers: int
    load: float
    """Arrivals over what the workers can do without any cache."""
    faults: tuple[str, ...]
    numbers: Numbers


def run_seed(seed: int, policy: str, workers: int | None = None) -> Run:
    """The world of a seed: the same seed gives the same world to every policy, and the same run every time."""
    random = Random(seed)
    size = random.choice(_SIZES)
    size = workers or size
    load = random.uniform(0.3, 2.0)
    trace = make_trace(TraceShape(asks=_ASKS, per_s=load * _ASKS_PER_WORKER_S * size), random)
    faults = make_faults(random.randint(0, 4), workers=size, until_s=trace[-1].at, random=random)

    routers = random.choice(_ROUTERS)

    async def run() -> World:
        world = World(
            WorldShape(
                workers=size,
                policy=policy.removesuffix(NO_AFFINITY).removesuffix(GUESSING),
                affinity=not policy.endswith(NO_AFFINITY),
                digests=not policy.endswith(GUESSING),
                routers=routers,
                pace=Pace(),
            ),
            trace,
            faults,
            Random(seed),
        )
        await world.run()
        return world

    return Run(
        seed=seed,
        policy=policy,
        workers=size,
        routers=routers,
        load=load,
        faults=tuple(fault.kind.value for fault in faults),
        numbers=measure(run_virtually(run())),
    )


def run_seeds(seeds: Sequence[int], policies: Sequence[str], workers: int | None) -> Iterator[Run]:
    """Each seed under the first policy, every fourth under the others as well, as they are done."""
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        jobs = [
            pool.submit(run_seed, seed, policy, workers)
            for number, seed in enumerate(seeds)
            for policy in (policies if number % COMPARED == 0 else policies[:1])
        ]
        for job in jobs:
            yield job.result()
