"""Faults drawn by a seed: every pair once, or one after another as chance has it. A seed is a schedule, for good."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import combinations
from typing import Final

from chaos.scenario import ClusterPart, FaultWish, LoadWish, Scenario

__all__ = ["BASIC", "drawn", "pairs"]

BASIC: Final = (
    FaultWish(do="kill"),
    FaultWish(do="freeze", for_s=4.0),
    FaultWish(do="black_hole", for_s=4.0),
    FaultWish(do="reset"),
    FaultWish(do="half_close"),
    FaultWish(do="bad_links", for_s=2.0, args={"segment_bytes": 1}),
    FaultWish(do="bad_links", for_s=2.0, args={"delay_s": 0.03, "jitter_s": 0.02}),
    FaultWish(do="restart"),
    FaultWish(do="kill", who="etcd", for_s=3.0),
    FaultWish(do="freeze", who="etcd", for_s=3.0),
    FaultWish(do="compact_etcd", for_s=0.5),
)
"""One of each kind that a cluster of four workers must bear, also two at a time."""

_EXPECT: Final = dict.fromkeys(
    (
        *("lost", "duplicated", "gapped", "reordered", "diverged", "wrong_revision", "ghosts"),
        "left_in_flight",
    ),
    0.0,
)
_SETTINGS: Final = {
    "worker.rows_max": 32,
    "oracle.step_ms": 25,
    "discovery.lease_ttl_s": 2,
}


def drawn(seed: int, num: int) -> Scenario:
    """`num` faults, drawn; every third on average begins while the one before it lasts, never three at once."""
    rng = random.Random(seed)
    faults: list[FaultWish] = []
    for _ in range(num):
        fault = rng.choice(BASIC)
        alone = bool(faults) and any(one.meanwhile for one in faults[-2:])
        meanwhile = not alone and rng.random() < 1 / 3
        faults.append(fault.model_copy(update={"meanwhile": meanwhile}))
        faults.append(FaultWish(do="nothing", for_s=round(rng.uniform(0.5, 2.0), 2)))
    return _scenario("random", f"{num} faults, drawn by seed {seed}", tuple(faults))


def pairs() -> Iterator[Scenario]:
    """Each two kinds of faults at the same time."""
    for first, second in combinations(BASIC, 2):
        at_once = first.model_copy(update={"meanwhile": True})
        name = f"pair-{_short(first)}-{_short(second)}"
        yield _scenario(name, f"{_short(first)} and {_short(second)} at once", (at_once, second))


def _short(fault: FaultWish) -> str:
    return fault.do if fault.who == "worker" else f"{fault.do}-{fault.who}"


def _scenario(name: str, title: str, faults: tuple[FaultWish, ...]) -> Scenario:
    return Scenario(
        name=name,
        order=300,
        promise="P01–P05",
        title=title,
        says="No request is lost; no token is repeated, missing or different.",
        cluster=ClusterPart(workers=4, settings=_SETTINGS),
        load=LoadWish(streams=24, max_tokens=60, in_flight_min=12),
        fault=faults,
        expect=_EXPECT,
    )
