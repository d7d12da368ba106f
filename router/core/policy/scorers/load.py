"""Soonest done: how much work lies ahead of a new request on each worker, and how fast the worker is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log
from statistics import median_low
from typing import Final, final

from router.core.call import RoutingView
from router.core.endpoint import Endpoint
from router.core.policy.api import Scorer

__all__ = ["LoadScorer"]

_PROMPT_TOKENS_PER_ROW: Final = 512
"""So many prompt tokens that wait to be computed delay a newcomer about as much as one more sequence."""

_PROMPT_TOKENS: Final = 256
_ANSWER_TOKENS: Final = 128
"""Of the request for which speeds are compared: what is asked for in truth nobody knows here."""
_MEASURED_S: Final = 10.0
"""A worker that has stood still for longer is taken for a usual one, so that it is tried again."""
_GRADE: Final = 1.25
"""Speeds that differ by less are alike: noise must not send everybody to the same worker."""
_PER_S_MIN: Final = 0.01
_PER_S_MAX: Final = 1e7


@final
class LoadScorer(Scorer):
    """Speed / (1 + work per row), where the fastest has speed 1: 1 for an idle worker, ½ for a full batch, towards 0
    for a long queue; a tenth of that for a worker that takes ten times as long for the same.

    Work is what the worker reported of others and what we know of our own calls, so that a burst between two reports
    spreads and a row that came free is seen at once; and the prompt tokens ahead. Speed is what prompt and answer of
    a request of middling size would take alone; where it is not known, or old, that of the others. A worker that warms
    up seems to have fewer rows than it has (`Endpoint.warmth`), so that its share grows in step with them.
    """

    name = "load"

    def score(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> Sequence[float]:
        times = _alone_s(endpoints)
        fastest = min(times, default=1.0)
        return [
            fastest / time / (1.0 + _work_per_row(endpoint))
            for time, endpoint in zip(times, endpoints, strict=True)
        ]

    def detail(self, view: RoutingView, endpoint: Endpoint) -> str:
        load = endpoint.load
        words = (
            f"{load.running} running, {load.waiting} waiting, {endpoint.unreported} sent since, "
            f"{load.rows_max} rows"
        )
        if load.decode_tokens_per_s:
            words += f", {load.decode_tokens_per_s:.0f} tokens/s among {load.decode_rows}"
        return words if endpoint.warmth == 1.0 else f"{words}, {endpoint.warmth:.0%} warm"


def _work_per_row(endpoint: Endpoint) -> float:
    load = endpoint.load
    work = endpoint.sequences + load.waiting_tokens / _PROMPT_TOKENS_PER_ROW
    return work / (max(1, load.rows_max) * endpoint.warmth)


def _alone_s(endpoints: Sequence[Endpoint]) -> list[float]:
    """What the imagined request would take on each, as far as their speeds can be told apart, seconds or any unit."""
    prefill = _known(endpoints, lambda e: e.load.prefill_tokens_per_s)
    decode = _known(endpoints, lambda e: e.load.decode_tokens_per_s)
    token_s = _comparable(
        [1.0 / per_s for per_s in decode], [e.load.decode_rows for e in endpoints]
    )
    return [
        _PROMPT_TOKENS / prompts + _ANSWER_TOKENS * seconds
        for prompts, seconds in zip(prefill, token_s, strict=True)
    ]


def _comparable(token_s: Sequence[float], rows: Sequence[int]) -> list[float]:
    """Seconds per token, had each as many rows as the others: the fastest's, times what each is surely slower.

    A step over more rows takes longer, but never longer per row (`router.core.health.pace`): whoever takes `s` seconds
    over `r` rows takes at most `s · max(1, q / r)` over `q`. Beyond the least of these bounds a worker is slow; within
    them nobody knows, and to take the busy one for the faster would send it everybody.
    """
    fastest: dict[int, float] = {}
    for seconds, many in zip(token_s, rows, strict=True):
        fastest[many] = min(seconds, fastest.get(many, seconds))
    bounds = {
        many: min(s * max(1.0, many / max(1, others)) for others, s in fastest.items())
        for many in fastest
    }
    least = min(fastest.values(), default=1.0)
    return [least * seconds / bounds[many] for seconds, many in zip(token_s, rows, strict=True)]


def _known(endpoints: Sequence[Endpoint], speed: Callable[[Endpoint], float]) -> list[float]:
    """The speed of each, graded; of those of whom none is known lately, that of half of the others at least."""
    graded = [_graded(speed(e)) if e.idle_s <= _MEASURED_S else 0.0 for e in endpoints]
    known = [per_s for per_s in graded if per_s > 0]
    usual = median_low(known) if known else 1.0
    return [per_s or usual for per_s in graded]


def _graded(per_s: float) -> float:
    """Rounded to steps of a quarter, within what is possible; 0 stays 0."""
    if not per_s > 0:
        return 0.0
    return float(_GRADE ** round(log(min(max(per_s, _PER_S_MIN), _PER_S_MAX), _GRADE)))
