"""The same session key prefers the same worker."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import final

from router.core.call import RoutingView
from router.core.endpoint import Endpoint

__all__ = ["SessionScorer"]


@final
class SessionScorer:
    """Rendezvous hashing: 1 for the endpoint with the highest hash of (key, endpoint id), 0 for the others.

    Every router finds the same home without talking to another, and only the sessions of a worker that leaves move.
    It is a preference: with its weight below that of load, a full home loses to an idle neighbour.
    """

    name = "session"

    def score(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> Sequence[float]:
        home = self.nominate(view, endpoints)
        return [1.0 if endpoint is home else 0.0 for endpoint in endpoints]

    def nominate(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> Endpoint | None:
        if not view.session_key or not endpoints:
            return None
        keyed = blake2b(view.session_key.encode(), digest_size=8)

        def affinity(endpoint: Endpoint) -> bytes:
            both = keyed.copy()
            both.update(b"\0" + endpoint.id.encode())
            return both.digest()

        return max(endpoints, key=affinity)
