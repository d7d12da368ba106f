"""Soonest done: how long a new request would take on each worker, as far as can be told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log
from statistics import median_low
from typing import Final, final

from router.core.call import RoutingView
from router.core.endpoint import Endpoint

__all__ = ["LoadScorer"]

_PROMPT_TOKENS: Final = 256
_ANSWER_TOKENS: Final = 128
"""The request that is imagined; its answer cannot be known, and its prompt is not tokenized here."""
_ROWS_FREE: Final = 3
"""A step over r rows takes about as long as `_ROWS_FREE + r`: weights are read once, whatever the rows."""
_MEASURED_S: Final = 10.0
"""A worker that has stood still for longer is taken for a usual one, so that it is tried again."""
_GRADE: Final = 1.25
"""Speeds that differ by less are alike: noise must not send everybody to the same worker."""

_PER_S_MIN: Final = 0.01
_PER_S_MAX: Final = 1e7
_DECODE_PER_S: Final = 50.0
_PREFILL_PER_S: Final = 1000.0
"""Where nobody knows a speed: then only rows and waiting tokens tell workers apart."""


@final
class LoadScorer:
    """The shortest expected time divided by each one's own: 1 for the soonest, ½ where it takes twice as long.

    The time: prompts that wait and this one's, at the speed of prompts; a row that becomes free, when all are taken; an
    answer among all the rows, at the speed of decoding. Of our own calls we know more than the last report, so a burst
    spreads and a row that came free is seen at once. A worker that warms up seems slower than it is
    (`Endpoint.warmth`). Speeds that are unknown or old are those of the others.
    """

    name = "load"

    def score(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> Sequence[float]:
        prefill = _usual(endpoints, lambda e: e.load.prefill_tokens_per_s, _PREFILL_PER_S)
        decode = _usual(endpoints, _decode_alone, _DECODE_PER_S)
        times = [_seconds(e, prefill, decode) for e in endpoints]
        soonest = min(times, default=1.0)
        return [soonest / time for time in times]

    def nominate(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> Endpoint | None:
        return None


def _seconds(endpoint: Endpoint, usual_prefill: float, usual_decode: float) -> float:
    load = endpoint.load
    is_known = endpoint.idle_s <= _MEASURED_S
    prefill = (is_known and _graded(load.prefill_tokens_per_s)) or usual_prefill
    decode = (is_known and _graded(_decode_alone(endpoint))) or usual_decode
    rows_max = max(1, load.rows_max)
    rows = endpoint.sequences
    prompt_tokens = load.waiting_tokens + (1 + endpoint.unreported) * _PROMPT_TOKENS
    answer_s = _ANSWER_TOKENS * _step(min(rows + 1, rows_max)) / decode
    queue_s = max(0, rows + 1 - rows_max) * answer_s / rows_max
    return (prompt_tokens / prefill + queue_s + answer_s) / endpoint.warmth


def _step(rows: int) -> float:
    """How much longer than over one row a step takes."""
    return (_ROWS_FREE + rows) / (_ROWS_FREE + 1)


def _decode_alone(endpoint: Endpoint) -> float:
    """Tokens per second that a sequence would get alone; 0 when not measured."""
    load = endpoint.load
    return load.decode_tokens_per_s * _step(max(1, load.decode_rows))


def _usual(
    endpoints: Sequence[Endpoint], speed: Callable[[Endpoint], float], otherwise: float
) -> float:
    known = [_graded(speed(e)) for e in endpoints if e.idle_s <= _MEASURED_S and speed(e) > 0]
    return median_low(known) if known else otherwise


def _graded(speed: float) -> float:
    """Rounded to steps of a quarter, within what is possible; 0 stays 0."""
    if not speed > 0:
        return 0.0
    return float(_GRADE ** round(log(min(max(speed, _PER_S_MIN), _PER_S_MAX), _GRADE)))
