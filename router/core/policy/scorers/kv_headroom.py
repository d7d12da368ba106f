"""Room left in the KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from router.core.call import RoutingView
from router.core.endpoint import Endpoint
from router.core.policy.api import Scorer

__all__ = ["KvHeadroomScorer"]


@final
class KvHeadroomScorer(Scorer):
    """The free share of the cache: a worker that is nearly full will soon have to queue or preempt."""

    name = "kv_headroom"

    def score(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> Sequence[float]:
        return [1.0 - endpoint.load.kv_usage for endpoint in endpoints]

    def detail(self, view: RoutingView, endpoint: Endpoint) -> str:
        return f"{endpoint.load.kv_usage:.0%} in use"
