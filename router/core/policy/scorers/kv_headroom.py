"""Room left in the KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from router.core.call import RoutingView
from router.core.endpoint import Endpoint

__all__ = ["KvHeadroomScorer"]


@final
class KvHeadroomScorer:
    """The free share of the cache: a worker that is nearly full will soon have to queue or preempt."""

    name = "kv_headroom"

    def score(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> Sequence[float]:
        return [1.0 - endpoint.load.kv_usage for endpoint in endpoints]

    def nominate(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> Endpoint | None:
        return None
