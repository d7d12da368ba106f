"""The table of policies: name → factory. Adding one is a line here."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from common.errors import Conflict
from router.core.policy.api import Picker, Scorer
from router.core.policy.filters import NotTried, Ready, ServesTask
from router.core.policy.pickers import Best, PowerOfTwo
from router.core.policy.pipeline import Pipeline
from router.core.policy.scorers.kv_headroom import KvHeadroomScorer
from router.core.policy.scorers.load import LoadScorer
from router.core.policy.scorers.session import SessionScorer

__all__ = ["POLICIES", "make_policy"]


def _by_load(name: str, picker: Picker, prefix: Scorer | None) -> Pipeline:
    # Load decides; KV room breaks near-ties; a session keeps its home until the home has about
    # half a batch more work than its rival (1 - 1/(1 + ½) ≈ 0.3). A prompt that is all known somewhere goes there
    # unless that worker has three batches more to do (1.5 · (1 - ½) = 1 - 1/(1 + 3)); the scorer itself gives up
    # on a home that is overloaded, which mostly comes first.
    affinity = ((prefix, 1.5),) if prefix is not None else ()
    return Pipeline(
        name,
        filters=(Ready(), ServesTask(), NotTried()),
        scorers=(
            (LoadScorer(), 1.0),
            *affinity,
            (KvHeadroomScorer(), 0.1),
            (SessionScorer(), 0.3),
        ),
        picker=picker,
    )


POLICIES: Final[dict[str, Callable[[Random, Scorer | None], Pipeline]]] = {
    "power_of_two": lambda random, prefix: _by_load("power_of_two", PowerOfTwo(random), prefix),
    "least_loaded": lambda random, prefix: _by_load("least_loaded", Best(random), prefix),
}


def make_policy(name: str, random: Random, prefix: Scorer | None = None) -> Pipeline:
    """The policy called `name`, with or without affinity to prefixes.

    Raises `Conflict(SETTING_INVALID)` listing the known names.
    """
    factory = POLICIES.get(name)
    if factory is None:
        raise Conflict(f"unknown router.policy {name!r}; policies are {', '.join(POLICIES)}")
    return factory(random, prefix)
