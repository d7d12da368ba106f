"""Filter, score, pick. The mechanism; the ideas are in filters, scorers and pickers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import final

from router.core.call import RoutingView
from router.core.candidates import Candidates
from router.core.endpoint import Endpoint
from router.core.policy.api import (
    Candidate,
    Choice,
    Explanation,
    Filter,
    Picker,
    Scorer,
    Tried,
)
from router.core.policy.filters import Ready, ServesTask

__all__ = ["Pipeline"]


@final
class Pipeline:
    """A `Policy` made of filters in order, weighted scorers and a picker."""

    def __init__(
        self,
        name: str,
        *,
        filters: Sequence[Filter],
        scorers: Sequence[tuple[Scorer, float]],
        picker: Picker,
    ) -> None:
        if not scorers or any(weight <= 0 for _, weight in scorers):
            raise ValueError("a policy needs scorers, each with a weight above 0")
        self.name = name
        self._filters = tuple(filters)
        self._unindexed = tuple(f for f in filters if not isinstance(f, Ready | ServesTask))
        self._scorers = tuple(scorers)
        self._picker = picker
        self._weight_sum = sum(weight for _, weight in scorers)

    def __repr__(self) -> str:
        scorers = ", ".join(f"{scorer.name}×{weight:g}" for scorer, weight in self._scorers)
        return f"Pipeline({self.name}: {scorers}; {self._picker.name})"

    def choose(
        self, view: RoutingView, endpoints: Sequence[Endpoint], tried: Tried = ()
    ) -> Choice | None:
        """See `Policy`."""
        left = self._filtered(view, endpoints, tried)
        if not left:
            return None
        if len(left) == 1:
            return Choice(endpoint=left[0])
        sampled = self._sample(view, left)
        totals = [0.0] * len(sampled)
        columns = []
        for scorer, weight in self._scorers:
            column = [_clamp(score) for score in scorer.score(view, sampled)]
            columns.append(column)
            for index, score in enumerate(column):
                totals[index] += score * weight
        winner = self._picker.pick(totals)
        scores = {
            scorer.name: column[winner]
            for (scorer, _), column in zip(self._scorers, columns, strict=True)
        }
        return Choice(endpoint=sampled[winner], scores=scores, num_scored=len(sampled))

    def known_bytes(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> int:
        """See `Policy`."""
        left = self._filtered(view, endpoints, ())
        return max(scorer.known_bytes(view, left) for scorer, _ in self._scorers)

    def routed(self, view: RoutingView, endpoint: Endpoint) -> int:
        """See `Policy`."""
        return max(scorer.routed(view, endpoint) for scorer, _ in self._scorers)

    def pick(
        self, view: RoutingView, endpoints: Sequence[Endpoint], tried: Tried = ()
    ) -> Endpoint | None:
        """`choose` without the why."""
        choice = self.choose(view, endpoints, tried)
        return choice.endpoint if choice is not None else None

    def explain(
        self, view: RoutingView, endpoints: Sequence[Endpoint], tried: Tried = ()
    ) -> Explanation:
        """See `Policy`."""
        ruled_out: dict[str, str] = {}
        left = endpoints
        for stage in self._filters:
            kept = stage.keep(view, left, tried)
            ids = {endpoint.id for endpoint in kept}
            ruled_out.update({e.id: stage.name for e in left if e.id not in ids})
            left = kept
        scores: dict[str, dict[str, float]] = {endpoint.id: {} for endpoint in left}
        details: dict[str, dict[str, str]] = {endpoint.id: {} for endpoint in left}
        for scorer, _ in self._scorers:
            scorer.nominate(view, left)
            for endpoint, score in zip(left, scorer.score(view, left), strict=True):
                scores[endpoint.id][scorer.name] = _clamp(score)
                if detail := scorer.detail(view, endpoint):
                    details[endpoint.id][scorer.name] = detail
        candidates = tuple(
            Candidate(
                endpoint_id=endpoint.id,
                state=endpoint.state,
                filtered_by=ruled_out.get(endpoint.id),
                scores=scores.get(endpoint.id, {}),
                details=details.get(endpoint.id, {}),
                total=self._total(scores.get(endpoint.id, {})),
            )
            for endpoint in endpoints
        )
        open_to = [candidate for candidate in candidates if candidate.filtered_by is None]
        best = max(open_to, key=lambda candidate: candidate.total).endpoint_id if open_to else None
        weights = {scorer.name: weight for scorer, weight in self._scorers}
        return Explanation(policy=self.name, weights=weights, candidates=candidates, best=best)

    def retain(self, endpoints: Collection[Endpoint]) -> None:
        """See `Policy`."""
        for scorer, _ in self._scorers:
            scorer.retain(endpoints)

    def _filtered(
        self, view: RoutingView, endpoints: Sequence[Endpoint], tried: Tried
    ) -> Sequence[Endpoint]:
        """Those that no filter rules out. What the pool has found already is not looked for again."""
        stages = self._filters
        if isinstance(endpoints, Candidates) and view.task:
            endpoints = endpoints.ready_for(view.task)
            stages = self._unindexed
        for stage in stages:
            endpoints = stage.keep(view, endpoints, tried)
        return endpoints

    def _sample(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        sampled = list(self._picker.sample(endpoints))
        for scorer, _ in self._scorers:
            nominated = scorer.nominate(view, endpoints)
            if nominated is not None and nominated not in sampled:
                sampled.append(nominated)
        return sampled

    def _total(self, scores: dict[str, float]) -> float:
        return (
            sum(scores.get(s.name, 0.0) * weight for s, weight in self._scorers) / self._weight_sum
        )


def _clamp(score: float) -> float:
    return min(1.0, max(0.0, score)) if score == score else 0.0
