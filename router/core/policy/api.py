"""The three verbs of a policy, and what choosing returns.

Everything here is called on the event loop for every request: pure, synchronous, microseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from router.core.call import RoutingView
from router.core.endpoint import Endpoint, EndpointState

__all__ = ["Candidate", "Choice", "Explanation", "Filter", "Picker", "Policy", "Scorer", "Tried"]

Tried = Collection[tuple[str, str]]
"""(id, incarnation) of endpoints that this call has already failed on."""


class Filter(Protocol):
    """Who is out of the question."""

    @property
    def name(self) -> str:
        """Shown as the reason in explanations."""
        ...

    def keep(
        self, view: RoutingView, endpoints: Sequence[Endpoint], tried: Tried
    ) -> Sequence[Endpoint]:
        """Those that may be chosen, in the same order; the same object when all may."""
        ...


class Scorer(Protocol):
    """How good each of some endpoints is, in one respect. A scorer inherits from it what it has no use for.

    For each choice `nominate` is called first, with everyone who may be chosen, then `score` with those that are looked
    at, then, when the request really goes there, `routed` with the winner.
    """

    @property
    def name(self) -> str: ...

    def score(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> Sequence[float]:
        """One number per endpoint, same order. The pipeline clamps to [0, 1], so that no scorer can outweigh its
        weight; what is not a number counts as 0.
        """
        ...

    def nominate(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> Endpoint | None:
        """The one that must be among those that are scored, when the picker looks at a sample only; else None."""
        return None

    def detail(self, view: RoutingView, endpoint: Endpoint) -> str:
        """What lies behind its score, in words, for explanations; may be empty."""
        return ""

    def known_bytes(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> int:
        """How many bytes of the prompt this scorer expects to find cached if the request goes to the best of these."""
        return 0

    def routed(self, view: RoutingView, endpoint: Endpoint) -> int:
        """The request goes there. Returns how many bytes of its prompt this scorer believes are cached there."""
        return 0

    def retain(self, endpoints: Collection[Endpoint]) -> None:
        """These are all that there are, of any model; what is known of others may be forgotten."""
        return


class Picker(Protocol):
    """Whom to look at, and who wins."""

    @property
    def name(self) -> str: ...

    def sample(self, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
        """Those worth scoring, at least one, each once."""
        ...

    def pick(self, totals: Sequence[float]) -> int:
        """Index of the winner among weighted sums; ties are broken at random."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Whom a policy took, and why."""

    endpoint: Endpoint
    scores: Mapping[str, float] = field(default_factory=dict)
    """Of the winner, by scorer, clamped, before weights; empty when there was nobody else."""
    num_scored: int = 1
    """Endpoints that were looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What a policy thinks of one endpoint."""

    endpoint_id: str
    state: EndpointState
    filtered_by: str | None = None
    """Name of the filter that ruled it out; None for a candidate."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """By scorer, clamped, before weights."""
    details: Mapping[str, str] = field(default_factory=dict)
    """By scorer: what lies behind the score, in words; only what there is to say."""
    total: float = 0.0
    """Weighted sum divided by the sum of weights, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a request would go where it goes."""

    policy: str
    weights: Mapping[str, float]
    """By scorer, in order."""
    candidates: tuple[Candidate, ...]
    """Every endpoint of the model, ruled out or not."""
    best: str | None
    """Id of the highest total; a sampling picker may take another. None when all are ruled out."""


class Policy(Protocol):
    """What the dispatcher asks."""

    def choose(
        self, view: RoutingView, endpoints: Sequence[Endpoint], tried: Tried = ()
    ) -> Choice | None:
        """The endpoint that the request should go to, and why; None when every one is ruled out (the dispatcher then
        waits or refuses). Remembers nothing: who takes the choice calls `routed`.
        """
        ...

    def known_bytes(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> int:
        """How many bytes of its prompt will probably be cached where the request goes, if it goes to one of these;
        remembers nothing.
        """
        ...

    def routed(self, view: RoutingView, endpoint: Endpoint) -> int:
        """The request goes there, now. Returns how many bytes of its prompt are believed to be cached there."""
        ...

    def explain(
        self, view: RoutingView, endpoints: Sequence[Endpoint], tried: Tried = ()
    ) -> Explanation:
        """Every endpoint with its scores or the filter that ruled it out; draws nothing, remembers nothing."""
        ...

    def retain(self, endpoints: Collection[Endpoint]) -> None:
        """These are all that there are, of any model; what is remembered of others may be forgotten."""
        ...
