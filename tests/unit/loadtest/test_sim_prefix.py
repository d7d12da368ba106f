"""Prefix affinity in simulated clusters: the router's own core, beside a cluster that knows everything.

Questions about documents: a few are popular (Zipf), no worker can hold them all, and nobody sends a session key that
would do the router's work. Where a router alone guesses well (one router, no restarts, room enough), what workers tell
may take nothing away; where the guess is wrong, it must be worth its bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from random import Random

import pytest

from loadtest.sim.faults import Fault, FaultKind
from loadtest.sim.measure import Numbers, measure
from loadtest.sim.router import WorldShape
from loadtest.sim.trace import BLOCK_TOKENS, Ask
from loadtest.sim.virtual_time import run_virtually
from loadtest.sim.worker import Pace
from loadtest.sim.world import World
from router.core.policy.registry import POLICIES

WORKERS = 4
DOCUMENTS = 200
ASKS = 1500
CACHE_BLOCKS = 1000
"""Of a worker; the documents have about 3,200."""


def _trace(per_s: float, random: Random) -> tuple[Ask, ...]:
    blocks = [random.randint(8, 24) for _ in range(DOCUMENTS)]
    popularity = list(accumulate(1 / (rank + 1) for rank in range(DOCUMENTS)))
    at, asks = 0.0, []
    for index in range(ASKS):
        at += random.expovariate(per_s)
        document = random.choices(range(DOCUMENTS), cum_weights=popularity)[0]
        asks.append(
            Ask(
                index=index,
                at=at,
                session=index,
                prefix=tuple(hash((document, block)) for block in range(blocks[document])),
                prompt_tokens=blocks[document] * BLOCK_TOKENS + random.randint(8, 200),
                answer_tokens=random.randint(8, 60),
                deadline_s=120.0,
                priority=0,
                caller="a",
            )
        )
    return tuple(asks)


def _run(
    per_s: float,
    *,
    affinity: bool = True,
    digests: bool = True,
    policy: str = "power_of_two",
    routers: int = 1,
    cache_blocks: int = CACHE_BLOCKS,
    faults: Sequence[Fault] = (),
    seed: int = 1,
) -> Numbers:
    trace = _trace(per_s, Random(seed))
    shape = WorldShape(
        workers=WORKERS,
        policy=policy,
        pace=Pace(cache_blocks=cache_blocks),
        affinity=affinity,
        routers=routers,
        digests=digests,
    )

    async def run() -> World:
        world = World(shape, trace, faults, Random(seed))
        await world.run()
        return world

    return measure(run_virtually(run()))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("per_s", [5.0, 20.0])
def test_nine_tenths_of_what_an_oracle_finds_and_nobody_has_half_as_much_again_as_the_mean(
    per_s: float, policy: str
) -> None:
    """At a seventh and at two thirds of what the workers can do."""
    numbers = _run(per_s, policy=policy)
    assert numbers.faults == ()
    assert numbers.hits >= 0.9
    assert numbers.imbalance <= 1.5
    assert numbers.good == 1.0


def test_without_affinity_a_quarter_of_it_is_missed() -> None:
    """The control: the same worlds do not give these numbers away."""
    assert _run(20.0, affinity=False).hits < 0.8


def test_three_routers_that_are_told_find_as_much_as_one() -> None:
    numbers = _run(5.0, routers=3)
    assert numbers.faults == ()
    assert numbers.hits >= 0.9
    assert numbers.imbalance <= 1.5
    assert numbers.good == 1.0


RESTARTS = tuple(
    Fault(kind=FaultKind.KILL, at=at, lasts_s=2.0, worker=number % WORKERS)
    for number, at in enumerate((10.0, 25.0, 40.0, 55.0, 65.0))
)


@pytest.mark.parametrize(
    ("routers", "cache_blocks", "faults", "gains"),
    [
        (1, CACHE_BLOCKS, RESTARTS, -0.01),
        (1, 300, (), 0.03),
        (3, CACHE_BLOCKS, RESTARTS, 0.08),
    ],
    ids=["restarts", "evictions", "routers, restarts"],
)
def test_being_told_is_worth_it_where_the_guess_is_wrong_and_costs_nothing_elsewhere(
    routers: int, cache_blocks: int, faults: Sequence[Fault], gains: float
) -> None:
    """Caches of 300 blocks hold a third of the documents, all four together."""
    told, guessed = (
        _run(20.0, digests=digests, routers=routers, cache_blocks=cache_blocks, faults=faults)
        for digests in (True, False)
    )
    assert told.faults == guessed.faults == ()
    assert told.hits - guessed.hits >= gains
    assert told.imbalance <= 1.5
    assert told.good >= guessed.good
