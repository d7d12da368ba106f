"""Samples → numbers. Definitions as in vLLM's `bench serve`, so that figures can be compared.

TTFT   time to first token: from sending a request to its first token. Open loop: from when it should have been sent
TPOT   time per output token: (end - first token) / (tokens - 1), one value per request
ITL    inter-token latency: every gap between two messages with tokens, all requests together
E2EL   from sending (open loop: from when it should have been sent) to the end of the answer
tokens/s   completion tokens of all requests that did not fail / duration of the run
goodput    requests per second that worked and kept every bound of the service level objective

Requests that failed count as failed and in nothing else; those that the client cut short have no TPOT and no E2EL.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final, final

from rich.table import Table

from cli.bench.measure import Sample
from cli.bench.run import Load
from cli.bench.slo import Slo
from cli.bench.spread import Spread, Values
from cli.bench.timeline import Timeline

__all__ = ["CURVES", "Report", "Tally", "report_table", "to_json"]

CURVES: Final = ("ttft", "tpot", "itl", "e2el")
"""Latencies whose whole distribution is kept for plots."""
_CURVE_POINTS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One load. Latencies in milliseconds; None: no such value."""

    load: str
    concurrency: int | None
    """Callers of a closed loop; None: open loop."""
    rate: float | None
    """Requests per second that were planned; None: closed loop."""
    requests: int
    failed: int
    cancelled: int
    """By the client, as planned."""
    errors: dict[str, int]
    """Reason → how many."""
    messages: dict[str, str]
    """Reason → what the first of these requests was told."""
    complete: bool
    """False: interrupted. Requests that were on their way then count in nothing."""
    duration_s: float
    client_cpu_s: float
    """CPU time of the process that sent the load: near `duration_s`, it was the client that was measured."""
    requests_per_s: float
    """That did not fail."""
    prompt_tokens: int
    completion_tokens: int
    tokens_per_s: float
    goodput: float | None
    """Requests per second that kept the objective; None: no objective."""
    slo_share: float | None
    """Share of all requests that kept it."""
    in_flight_max: int
    ttft_ms: Spread | None
    ttft_from_sending_ms: Spread | None
    """The same counted from when the request left; differs in the open loop, by `late_ms`."""
    late_ms: Spread | None
    """How much later than planned requests left."""
    tpot_ms: Spread | None
    itl_ms: Spread | None
    e2el_ms: Spread | None
    curves: dict[str, list[float]]
    """Latency → 101 values: its percentiles 0 to 100, milliseconds."""
    timeline: dict[str, Any]
    """Seconds per bin, and for each bin: most requests in flight, tokens that came, requests that failed."""


@final
class Tally:
    """Takes samples as they end; holds a bounded number of values, however long the run."""

    def __init__(self, slo: Slo | None = None) -> None:
        self.timeline = Timeline()
        self._slo = slo
        self._values = {
            name: Values() for name in ("ttft", "sent_ttft", "late", "tpot", "itl", "e2el")
        }
        self._errors: Counter[str] = Counter()
        self._messages: dict[str, str] = {}
        self._requests = self._cancelled = self._met = 0
        self._prompt_tokens = self._completion_tokens = 0

    def add(self, sample: Sample) -> None:
        """Counts one request."""
        self._requests += 1
        if sample.error:
            self._errors[sample.error] += 1
            if sample.failure is not None:
                self._messages.setdefault(sample.error, sample.failure.message)
            return
        self._cancelled += sample.cancelled
        self._met += self._slo is not None and self._slo.is_met(sample)
        self._prompt_tokens += sample.prompt_tokens
        self._completion_tokens += sample.completion_tokens
        self._add("late", sample.late_s)
        if sample.first_s is not None:
            self._add("ttft", sample.first_s)
            self._add("sent_ttft", sample.first_s - sample.late_s)
        for gap in sample.gaps_s:
            self._add("itl", gap)
        if not sample.cancelled:
            self._add("e2el", sample.took_s)
            if sample.per_token_s is not None:
                self._add("tpot", sample.per_token_s)

    def report(
        self, load: Load, took_s: float, *, client_cpu_s: float = 0.0, complete: bool = True
    ) -> Report:
        """What came of it in `took_s` seconds."""
        failed = sum(self._errors.values())
        per_s = 1.0 / took_s if took_s else 0.0
        has_slo = self._slo is not None
        bins = self.timeline.bins
        return Report(
            load=str(load),
            concurrency=load.concurrency if load.rate is None else None,
            rate=load.rate,
            requests=self._requests,
            failed=failed,
            cancelled=self._cancelled,
            errors=dict(self._errors),
            messages=dict(self._messages),
            complete=complete,
            duration_s=took_s,
            client_cpu_s=client_cpu_s,
            requests_per_s=(self._requests - failed) * per_s,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
            tokens_per_s=self._completion_tokens * per_s,
            goodput=self._met * per_s if has_slo else None,
            slo_share=self._met / max(1, self._requests) if has_slo else None,
            in_flight_max=self.timeline.in_flight_max,
            ttft_ms=self._spread("ttft"),
            ttft_from_sending_ms=self._spread("sent_ttft"),
            late_ms=self._spread("late"),
            tpot_ms=self._spread("tpot"),
            itl_ms=self._spread("itl"),
            e2el_ms=self._spread("e2el"),
            curves={name: curve for name in CURVES if (curve := self._curve(name))},
            timeline={
                "bin_s": self.timeline.width_s,
                "in_flight": [one.in_flight_max for one in bins],
                "tokens": [one.tokens for one in bins],
                "failed": [one.failed for one in bins],
            },
        )

    def _add(self, name: str, seconds: float) -> None:
        self._values[name].add(seconds)

    def _spread(self, name: str) -> Spread | None:
        return self._values[name].spread(scale=1e3)

    def _curve(self, name: str) -> list[float]:
        return [round(1e3 * value, 3) for value in self._values[name].percentiles(_CURVE_POINTS)]


def report_table(reports: Iterable[Report]) -> Table:
    """One line per load; medians unless the head says p99. Fits 80 columns."""
    shown = list(reports)
    has_slo = any(one.goodput is not None for one in shown)
    table = Table(
        box=None,
        pad_edge=False,
        header_style="dim",
        padding=(0, 1, 0, 0),
        caption="times in milliseconds",
        caption_justify="left",
    )
    for title in (
        "rate/s" if any(one.rate for one in shown) else "at once",
        *("sent", "failed", "req/s", "tok/s"),
        *("TTFT", "p99", "TPOT", "p99", "ITL", "p99"),
        *(("good/s",) if has_slo else ()),
    ):
        table.add_column(title, justify="right", no_wrap=True)
    for one in shown:
        table.add_row(*_row(one), *((f"{one.goodput:.1f}",) if one.goodput is not None else ()))
    return table


def to_json(reports: Iterable[Report]) -> dict[str, Any]:
    """All numbers as JSON data."""
    return {"reports": [asdict(one) for one in reports]}


def _row(one: Report) -> list[str]:
    row = [f"{one.rate:g}" if one.rate is not None else str(one.concurrency)]
    row += [str(one.requests), str(one.failed)]
    row += [f"{one.requests_per_s:.1f}", f"{one.tokens_per_s:.0f}"]
    for spread in (one.ttft_ms, one.tpot_ms, one.itl_ms):
        row += ["", ""] if spread is None else [f"{spread.median:.1f}", f"{spread.p99:.1f}"]
    return row
