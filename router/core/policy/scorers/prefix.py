"""Where a prompt's beginning has been computed before."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, final

from common.clock import Clock
from router.core.call import RoutingView
from router.core.candidates import ReadyEndpoints, find, work_of
from router.core.endpoint import Endpoint
from router.core.policy.api import Scorer
from router.core.policy.prefix_table import NO_MATCH, Home, Match, PrefixTable
from router.core.policy.recent_work import RecentWork

__all__ = ["PrefixScorer"]

_BYTES_WORTH_MIN: Final = 1024
"""Shorter prompts are computed in a moment anywhere; they are scored as if they had so many bytes."""
_RECENT_WEIGHT: Final = 0.5
"""In an idle cluster a byte computed lately counts half a byte to compute now: siblings of a burst that share nearly
everything stay together, while those that share less than about nine tenths of their prompt spread in the long run. The
more the workers have to do, the less it counts: then load says where there is room."""
_OVERLOAD_FACTOR: Final = 1.25
"""A home with more work per row than that, times the mean, has lost its right to what it knows."""
_OVERLOAD_FREE: Final = 0.5
"""Up to so much work per row nobody is overloaded, however idle the others are."""


@final
class PrefixScorer(Scorer):
    """1 - cost / (2 · prompt): 1 when nothing is left to compute there, ½ for a stranger, less for who had much lately.

    The cost is the bytes of the prompt that are not known there, and, unless the request goes on with an earlier
    one, a share of the bytes that the worker had to compute lately. What was sent counts at once, so a burst of
    siblings finds the home of the first. A home that is overloaded is a stranger.
    """

    name = "prefix"

    def __init__(self, table: PrefixTable, clock: Clock) -> None:
        self._table = table
        self._clock = clock
        self._recent: dict[str, RecentWork] = {}
        self._last: tuple[RoutingView | None, Match] = (None, NO_MATCH)
        self._mean = 0.0
        """Work per row, over everyone, when homes were looked for last."""

    def score(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> Sequence[float]:
        if not view.prefix.hashes:
            return [0.0] * len(endpoints)
        return self._scores(view, endpoints)

    def nominate(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> Endpoint | None:
        if not view.prefix.hashes:
            return None
        homes = self._homes(view, endpoints)
        if len(homes) < 2:
            return homes[0] if homes else None
        scores = self._scores(view, homes)
        # Between homes that know the same, the one with less to do.
        rank = [(score, -_work_per_row(e)) for score, e in zip(scores, homes, strict=True)]
        return homes[rank.index(max(rank))]

    def known_bytes(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> int:
        if not view.prefix.hashes:
            return 0
        homes = self._homes(view, endpoints)
        return max((self._known(view, e) for e in homes if not self._is_overloaded(e)), default=0)

    def detail(self, view: RoutingView, endpoint: Endpoint) -> str:
        prefix = view.prefix
        if not prefix.hashes:
            return ""
        known = self._known(view, endpoint)
        words = [f"{known} of {prefix.num_bytes} bytes of the prompt are known there"]
        if known and self._is_overloaded(endpoint):
            words.append("which does not count, it is overloaded")
        recent = round(self._recent_work(endpoint))
        if recent and not self._match(view).is_continuation:
            words.append(f"{recent} bytes to compute lately")
        return ", ".join(words)

    def routed(self, view: RoutingView, endpoint: Endpoint) -> int:
        prefix = view.prefix
        if not prefix.hashes:
            return 0
        known = self._known(view, endpoint)
        home = _home(endpoint)
        recent = self._recent.setdefault(endpoint.model, RecentWork())
        recent.add(home, prefix.num_bytes - known)
        self._table.record(prefix.hashes, home, self._clock.now(), is_whole=prefix.is_whole)
        self._last = (None, NO_MATCH)
        return known

    def retain(self, endpoints: Collection[Endpoint]) -> None:
        alive = {_home(endpoint) for endpoint in endpoints}
        models = {endpoint.model for endpoint in endpoints}
        self._table.retain(alive)
        self._recent = {model: work for model, work in self._recent.items() if model in models}
        for work in self._recent.values():
            work.retain(alive)
        self._last = (None, NO_MATCH)

    # --- inside -------------------------------------------------------------------------------

    def _scores(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> list[float]:
        num_bytes, ends = view.prefix.num_bytes, view.prefix.ends
        match = self._match(view)
        scale = 2 * max(num_bytes, _BYTES_WORTH_MIN)
        recent_weight = 0.0 if match.is_continuation else _RECENT_WEIGHT / (1.0 + 2.0 * self._mean)
        scores = []
        for endpoint in endpoints:
            count = match.counts.get(_home(endpoint), 0)
            known = ends[count - 1] if count and not self._is_overloaded(endpoint) else 0
            cost = num_bytes - known + recent_weight * self._recent_work(endpoint)
            scores.append(1.0 - cost / scale)
        return scores

    def _homes(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        """Those of them that know a beginning of the prompt; looks anew."""
        self._mean = _mean_work(endpoints)
        self._last = (view, self._table.match(view.prefix.hashes, self._clock.now()))
        return [
            endpoint
            for endpoint_id, incarnation in self._last[1].counts
            if (endpoint := find(endpoints, endpoint_id)) is not None
            and endpoint.incarnation == incarnation
        ]

    def _known(self, view: RoutingView, endpoint: Endpoint) -> int:
        count = self._match(view).counts.get(_home(endpoint), 0)
        return view.prefix.ends[count - 1] if count else 0

    def _recent_work(self, endpoint: Endpoint) -> float:
        recent = self._recent.get(endpoint.model)
        return recent.of(_home(endpoint)) if recent is not None else 0.0

    def _match(self, view: RoutingView) -> Match:
        """What was found when homes were looked for last."""
        if self._last[0] is not view:
            self._last = (view, self._table.match(view.prefix.hashes, self._clock.now()))
        return self._last[1]

    def _is_overloaded(self, endpoint: Endpoint) -> bool:
        return _work_per_row(endpoint) > max(_OVERLOAD_FREE, _OVERLOAD_FACTOR * self._mean)


def _home(endpoint: Endpoint) -> Home:
    return (endpoint.id, endpoint.incarnation)


def _work_per_row(endpoint: Endpoint) -> float:
    return work_of(endpoint) / max(1, endpoint.load.rows_max)


def _mean_work(endpoints: Sequence[Endpoint]) -> float:
    if isinstance(endpoints, ReadyEndpoints):
        return endpoints.sequences / max(1, endpoints.rows)
    rows = sum(max(1, endpoint.load.rows_max) for endpoint in endpoints)
    return sum(work_of(endpoint) for endpoint in endpoints) / max(1, rows)
