"""The table of policies: name → factory. Adding one is a line here."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from common.errors import Conflict
from router.core.policy.api import Picker, Policy
from router.core.policy.filters import NotTried, Ready, ServesTask
from router.core.policy.pickers import Best, PowerOfTwo
from router.core.policy.pipeline import Pipeline
from router.core.policy.scorers.kv_headroom import KvHeadroomScorer
from router.core.policy.scorers.load import LoadScorer
from router.core.policy.scorers.session import SessionScorer

__all__ = ["POLICIES", "make_policy"]


def _by_load(name: str, picker: Picker) -> Policy:
    # Load decides; KV room breaks near-ties; a session keeps its home until the home has about
    # half a batch more work than its rival (1 - 1/(1 + ½) ≈ 0.3).
    return Pipeline(
        name,
        filters=(Ready(), ServesTask(), NotTried()),
        scorers=((LoadScorer(), 1.0), (KvHeadroomScorer(), 0.1), (SessionScorer(), 0.3)),
        picker=picker,
    )


POLICIES: Final[dict[str, Callable[[Random], Policy]]] = {
    "power_of_two": lambda random: _by_load("power_of_two", PowerOfTwo(random)),
    "least_loaded": lambda random: _by_load("least_loaded", Best(random)),
}


def make_policy(name: str, random: Random) -> Policy:
    """The policy called `name`; `Conflict(SETTING_INVALID)` listing the known names otherwise."""
    factory = POLICIES.get(name)
    if factory is None:
        raise Conflict(f"unknown router.policy {name!r}; policies are {', '.join(POLICIES)}")
    return factory(random)
