"""Least work ahead of a new request, relative to the size of the worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

from router.core.call import RoutingView
from router.core.endpoint import Endpoint
from router.core.policy.api import Scorer

__all__ = ["LoadScorer"]

_PROMPT_TOKENS_PER_ROW: Final = 512
"""So many prompt tokens that wait to be computed delay a newcomer about as much as one more sequence."""


@final
class LoadScorer(Scorer):
    """1 / (1 + work per row): 1 for an idle worker, ½ for a full batch, towards 0 for a long queue.

    Work is what the worker reported of others and what we know of our own calls, so that a burst between two reports
    spreads and a row that came free is seen at once; and the prompt tokens ahead.
    """

    name = "load"

    def score(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> Sequence[float]:
        return [_score(endpoint) for endpoint in endpoints]

    def detail(self, view: RoutingView, endpoint: Endpoint) -> str:
        load = endpoint.load
        return (
            f"{load.running} running, {load.waiting} waiting, {endpoint.unreported} sent since, "
            f"{load.rows_max} rows"
        )


def _score(endpoint: Endpoint) -> float:
    load = endpoint.load
    work = endpoint.sequences + load.waiting_tokens / _PROMPT_TOKENS_PER_ROW
    return 1.0 / (1.0 + work / max(1, load.rows_max))
