"""Whom to look at and who wins."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import final

from router.core.endpoint import Endpoint

__all__ = ["Best", "PowerOfTwo"]


@final
class PowerOfTwo:
    """Looks at two endpoints drawn at random and takes the better one.

    Two are enough to keep the longest queue short, and several routers with slightly old numbers do not all run to the
    same worker, as they would with `Best`. The cost does not grow with the cluster.
    """

    name = "power_of_two"

    def __init__(self, random: Random) -> None:
        self._random = random

    def sample(self, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
        if len(endpoints) <= 2:
            return endpoints
        first = int(self._random.random() * len(endpoints))
        second = int(self._random.random() * (len(endpoints) - 1))
        return (endpoints[first], endpoints[second + (second >= first)])

    def pick(self, totals: Sequence[float]) -> int:
        return _highest(totals, self._random)


@final
class Best:
    """Looks at all. Right for few endpoints and one router."""

    name = "best"

    def __init__(self, random: Random) -> None:
        self._random = random

    def sample(self, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
        return endpoints

    def pick(self, totals: Sequence[float]) -> int:
        return _highest(totals, self._random)


def _highest(totals: Sequence[float], random: Random) -> int:
    top = max(totals)
    tied = [index for index, total in enumerate(totals) if total == top]
    return tied[0] if len(tied) == 1 else tied[int(random.random() * len(tied))]
