"""The same session key prefers the same worker."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from typing import Final, final

from router.core.call import RoutingView
from router.core.candidates import ReadyEndpoints, find
from router.core.endpoint import Endpoint
from router.core.policy.api import Scorer

__all__ = ["SessionScorer"]

_POINTS: Final = 32
"""On the circle, per endpoint: the busiest of many gets about 1.4 times the mean of the sessions."""


@final
class SessionScorer(Scorer):
    """Consistent hashing: 1 for the home of the key, 0 for the others.

    Every router finds the same home without talking to another, and only the sessions of a worker that leaves move.
    It is a preference: with its weight below that of load, a full home loses to an idle neighbour.
    """

    name = "session"

    def __init__(self) -> None:
        self._rings: dict[str, _Ring] = {}
        """By model."""

    def score(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> Sequence[float]:
        home = self.nominate(view, endpoints)
        return [1.0 if endpoint is home else 0.0 for endpoint in endpoints]

    def nominate(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> Endpoint | None:
        if not view.session_key or not endpoints:
            return None
        model = endpoints[0].model
        ring = self._rings.get(model)
        if ring is None:
            ring = self._rings[model] = _Ring()
        ring.add(endpoints)
        return ring.home_of(view.session_key, endpoints)

    def detail(self, view: RoutingView, endpoint: Endpoint) -> str:
        return f"session key {view.session_key!r}" if view.session_key else ""

    def retain(self, endpoints: Collection[Endpoint]) -> None:
        models: dict[str, set[str]] = {}
        for endpoint in endpoints:
            models.setdefault(endpoint.model, set()).add(endpoint.id)
        self._rings = {model: ring for model, ring in self._rings.items() if model in models}
        for model, ring in self._rings.items():
            ring.keep(models[model])


@final
class _Ring:
    """Points of endpoints on a circle. Who is on it but not among the candidates is passed over."""

    def __init__(self) -> None:
        self._points: list[int] = []
        self._owners: dict[int, str] = {}
        self._ids: set[str] = set()
        self._added: Mapping[str, int] | None = None

    def add(self, endpoints: Sequence[Endpoint]) -> None:
        if isinstance(endpoints, ReadyEndpoints):
            if endpoints.positions is self._added:
                return
            self._added = endpoints.positions
            new = endpoints.positions.keys() - self._ids
        else:
            new = {e.id for e in endpoints if e.id not in self._ids}
        for endpoint_id in new:
            self._owners.update(dict.fromkeys(_points_of(endpoint_id), endpoint_id))
        if new:
            self._ids |= new
            self._points = sorted(self._owners)

    def keep(self, ids: Collection[str]) -> None:
        if not self._ids <= set(ids):
            self._owners = {point: owner for point, owner in self._owners.items() if owner in ids}
            self._ids &= set(ids)
            self._points = sorted(self._owners)
            self._added = None

    def home_of(self, key: str, endpoints: Sequence[Endpoint]) -> Endpoint | None:
        """The first of them on the way round from the key."""
        num = len(self._points)
        start = bisect(self._points, _hash(key.encode()))
        for step in range(num):
            owner = self._owners[self._points[(start + step) % num]]
            if (endpoint := find(endpoints, owner)) is not None:
                return endpoint
        return None


def _points_of(endpoint_id: str) -> list[int]:
    return [_hash(b"%d %b" % (index, endpoint_id.encode())) for index in range(_POINTS)]


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")
