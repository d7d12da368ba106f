"""Samples → numbers. Definitions as in vLLM's `bench serve`, so that figures can be compared.

TTFT   time to first token: from sending a request to its first token
TPOT   time per output token: (end - first token) / (tokens - 1), one value per request
ITL    inter-token latency: every gap between two messages with tokens, all requests together
E2EL   from sending to the end of the answer
tokens/s   completion tokens of all requests that worked / duration of the run
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from cli.bench.measure import Sample

__all__ = ["Report", "Spread", "make_report", "percentile", "report_table", "to_json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A distribution in three numbers, milliseconds."""

    mean: float
    median: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One concurrency."""

    concurrency: int
    requests: int
    failed: int
    errors: dict[str, int]
    """Reason → how many."""
    duration_s: float
    requests_per_s: float
    prompt_tokens: int
    completion_tokens: int
    tokens_per_s: float
    ttft_ms: Spread | None
    tpot_ms: Spread | None
    itl_ms: Spread | None
    e2el_ms: Spread | None


def make_report(samples: Sequence[Sample], *, concurrency: int, took_s: float) -> Report:
    """Failed requests count as failed and in nothing else."""
    good = [one for one in samples if not one.error]
    tokens = sum(one.completion_tokens for one in good)
    return Report(
        concurrency=concurrency,
        requests=len(samples),
        failed=len(samples) - len(good),
        errors=dict(Counter(one.error for one in samples if one.error)),
        duration_s=took_s,
        requests_per_s=len(good) / took_s if took_s else 0.0,
        prompt_tokens=sum(one.prompt_tokens for one in good),
        completion_tokens=tokens,
        tokens_per_s=tokens / took_s if took_s else 0.0,
        ttft_ms=_spread(one.first_s for one in good if one.first_s is not None),
        tpot_ms=_spread(one.per_token_s for one in good if one.per_token_s is not None),
        itl_ms=_spread(gap for one in good for gap in one.gaps_s),
        e2el_ms=_spread(one.took_s for one in good),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Linear interpolation between closest ranks, as numpy does it. `values` sorted, not empty; `share` 0 to 1."""
    position = (len(values) - 1) * share
    low, high = math.floor(position), math.ceil(position)
    return values[low] + (values[high] - values[low]) * (position - low)


def report_table(reports: Iterable[Report]) -> Table:
    """One line per concurrency; times in milliseconds, medians unless the head says p99. Fits 80 columns."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    for title in (
        *("at once", "requests", "failed", "req/s", "tok/s"),
        *("TTFT ms", "p99", "TPOT ms", "p99", "ITL ms", "p99"),
    ):
        table.add_column(title, justify="right", no_wrap=True)
    for one in reports:
        table.add_row(*_row(one))
    return table


def to_json(reports: Iterable[Report]) -> dict[str, Any]:
    """All numbers as JSON data."""
    return {"reports": [asdict(one) for one in reports]}


def _row(one: Report) -> list[str]:
    row = [str(one.concurrency), str(one.requests), str(one.failed)]
    row += [f"{one.requests_per_s:.1f}", f"{one.tokens_per_s:.0f}"]
    for spread in (one.ttft_ms, one.tpot_ms, one.itl_ms):
        row += ["", ""] if spread is None else [f"{spread.median:.1f}", f"{spread.p99:.1f}"]
    return row


def _spread(seconds: Iterable[float]) -> Spread | None:
    values = sorted(value * 1e3 for value in seconds)
    if not values:
        return None
    return Spread(
        mean=sum(values) / len(values),
        median=percentile(values, 0.5),
        p99=percentile(values, 0.99),
    )
