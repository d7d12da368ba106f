"""From records and injections to the numbers of the ledger. Pure.

lost, duplicated, gapped, reordered, diverged, wrong_revision, ghosts     see `chaos.checker.Faults`
gap_ms_max          longest time between two tokens of one stream
added_gap_ms_p99    of the streams that a fault hit: their gap then, less what is usual for them
detect_ms           from a fault to the last request that was still sent to who had it (first token late, or moved)
recover_ms          from the last fault until tokens per second are back at 95 % of before
victim_share        of the requests sent 5 s after a fault and later, how many went to its victim
amplification       attempts per request: (requests + retries + migrations) / requests, counted by the routers
ghost_share         of the tokens that workers sent, how many no client got (only while no worker died)
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from statistics import median, quantiles
from typing import Final, final

from chaos.injection import Injection
from chaos.record import Record

__all__ = ["TokenTimes", "amplification", "p99", "timings"]

_SOON_S: Final = 5.0
"""A gap that begins within so many seconds after a fault is its doing."""
_LATE_S: Final = 1.0
"""A first token that takes so much longer than usual was asked of a worker that did not answer."""
_WINDOW_S: Final = 1.0
_STEP_S: Final = 0.1
_BACK: Final = 0.95


def timings(
    records: Sequence[Record], injections: Sequence[Injection], *, calm_s: float, ended_at: float
) -> dict[str, float]:
    """Everything that has to do with time; measures that mean nothing here are left out."""
    found = {"gap_ms_max": 1e3 * max((g for r in records for g in _gaps(r)), default=0.0)}
    if not injections:
        return found
    added = [gap for one in injections for r in records if (gap := _added_gap(r, one)) is not None]
    if added:
        found["added_gap_ms_p99"] = 1e3 * p99(added)
        found["hit_streams"] = len(added)
    if any(one.victims for one in injections):
        found["detect_ms"] = 1e3 * max(_detect_s(records, one) for one in injections)
    share = _victim_share(records, injections)
    if share is not None:
        found["victim_share"] = share
    found["recover_ms"] = 1e3 * _recover_s(records, injections, calm_s=calm_s, ended_at=ended_at)
    return found


def p99(values: Sequence[float]) -> float:
    """0 without values."""
    if len(values) < 2:
        return values[0] if values else 0.0
    return quantiles(values, n=100, method="inclusive")[98]


def amplification(
    before: Mapping[str, float], after: Mapping[str, float], *, num_hit: int = 0
) -> float | None:
    """Of what one router counted; None when it counted no request. `num_hit`: streams that had to go elsewhere."""

    def grown(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    requests = grown("lepton_requests_total")
    if requests <= 0:
        return None
    migrations = grown("lepton_migrations_total")
    attempts = requests + grown("lepton_retries_total") + migrations
    return attempts / (requests + min(migrations, num_hit))


@final
class TokenTimes:
    """When clients got tokens, for rates over any window."""

    def __init__(self, records: Sequence[Record]) -> None:
        events = sorted(
            (one.at, len(one.event.delta.token_ids))
            for record in records
            for one in record.received
        )
        self._times = [at for at, _ in events]
        self._sums = [0, *accumulate(num for _, num in events)]

    def rate(self, since: float, until: float) -> float:
        """Tokens per second."""
        first, last = bisect_left(self._times, since), bisect_left(self._times, until)
        return (self._sums[last] - self._sums[first]) / max(1e-9, until - since)


def _gaps(record: Record) -> list[float]:
    times = record.token_times
    return [later - earlier for earlier, later in pairwise(times)]


def _added_gap(record: Record, one: Injection) -> float | None:
    """None for a stream that was not with a victim, or did not go on."""
    if record.worker_at(one.at) not in one.victims or (record.ended_at or one.at + 1) <= one.at:
        return None
    times = record.token_times
    hit = [
        later - earlier
        for earlier, later in pairwise(times)
        if later > one.at and earlier < one.at + _SOON_S
    ]
    usual = _gaps(record)
    return max(0.0, max(hit) - median(usual)) if hit else None


def _detect_s(records: Sequence[Record], one: Injection) -> float:
    first_tokens = [
        r.token_times[0] - r.sent_at for r in records if r.token_times and r.sent_at < one.at
    ]
    usual = median(first_tokens) if first_tokens else 0.0
    bad = [
        r.sent_at - one.at
        for r in records
        if one.at < r.sent_at < one.at + 3 * _SOON_S and _was_sent_to(r, one.victims, usual)
    ]
    return max(bad, default=0.0)


def _was_sent_to(record: Record, victims: Sequence[str], usual_s: float) -> bool:
    if any(move.from_worker in victims for move in record.migrations):
        return True
    times = record.token_times
    return bool(times) and times[0] - record.sent_at > usual_s + _LATE_S


def _victim_share(records: Sequence[Record], injections: Sequence[Injection]) -> float | None:
    victims = {worker for one in injections for worker in one.victims}
    late = [r for r in records if r.sent_at > injections[-1].at + _SOON_S and r.started is not None]
    if not victims or len(late) < 20:
        return None
    return sum(r.started is not None and r.started.worker_id in victims for r in late) / len(late)


def _recover_s(
    records: Sequence[Record], injections: Sequence[Injection], *, calm_s: float, ended_at: float
) -> float:
    """Infinite when it was not seen to recover before the load ended."""
    first, last = injections[0].at, injections[-1].at
    tokens = TokenTimes(records)
    usual = tokens.rate(first - calm_s, first)
    at = last
    while at + _WINDOW_S <= ended_at:
        if tokens.rate(at, at + _WINDOW_S) >= _BACK * usual:
            return at - last
        at += _STEP_S
    return math.inf
