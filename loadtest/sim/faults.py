"""What goes wrong, when: a pure function of its seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final

__all__ = ["Fault", "FaultKind", "make_faults"]


class FaultKind(StrEnum):
    """Kinds of trouble that a router must live with."""

    KILL = "kill"
    """One worker dies and comes back."""
    FREEZE = "freeze"
    """One worker stands still, comes back with what it knew, and finds its calls cancelled."""
    SLOW = "slow"
    """One worker computes ten times slower."""
    FAIL = "fail"
    """One worker answers everything at once with an error."""
    DRAIN = "drain"
    """One worker is updated: drains, ends, comes back."""
    REGISTRY_AWAY = "registry away"
    """The registry does not answer."""
    REGISTRY_WIPED = "registry wiped"
    """The registry comes back empty, and fills again."""
    MANY_VANISH = "many vanish"
    """Half of the workers die within a moment."""


_SPAN_S: Final = (0.5, 6.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One of them."""

    kind: FaultKind
    at: float
    lasts_s: float
    worker: int
    """Index of the worker, where it concerns one."""


def make_faults(
    num: int,
    *,
    workers: int,
    until_s: float,
    random: Random,
    kinds: Sequence[FaultKind] = tuple(FaultKind),
) -> tuple[Fault, ...]:
    """`num` faults within `until_s` seconds, in order."""
    faults = [
        Fault(
            kind=random.choice(kinds),
            at=random.uniform(0.05, 0.8) * until_s,
            lasts_s=random.uniform(*_SPAN_S),
            worker=random.randrange(workers),
        )
        for _ in range(num)
    ]
    return tuple(sorted(faults, key=lambda fault: fault.at))
