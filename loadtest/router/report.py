"""The figures as tables: every way beside the others, and what was aimed at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from loadtest.latency.row import Row
from loadtest.router.measure import Figures
from loadtest.table import Table

__all__ = ["aims", "between", "comparison"]

_HEAD = (
    "way",
    "tokens/s, flooded",
    "tokens per message",
    "CPU µs per token, flooded",
    "tokens per CPU second",
    "CPU µs per token, in steps",
    "CPU µs per call",
    "first token p50 / p99 ms",
    "KiB per open stream",
)


def comparison(figures: Sequence[Figures]) -> Table:
    """Medians of the rounds."""
    return Table(title="", head=_HEAD, rows=[_cells(one) for one in figures])


def _cells(one: Figures) -> list[str]:
    def cpu(values: Sequence[float]) -> str:
        return f"{median(values):.1f}" if one.processes else "–"

    return [
        one.way,
        f"{median(one.tokens_per_s):,.0f}",
        f"{median(one.tokens_per_message):.2f}",
        cpu(one.flood_cpu_us),
        f"{1e6 / median(one.flood_cpu_us):,.0f}" if one.processes else "–",
        cpu(one.steps_cpu_us),
        f"{median(one.call_cpu_us):,.0f}" if one.processes else "–",
        f"{median(one.first_p50_ms):.2f} / {median(one.first_p99_ms):.2f}",
        "–" if one.idle_stream_bytes is None else f"{one.idle_stream_bytes / 1024:.0f}",
    ]


def aims(figures: Sequence[Figures]) -> list[Row]:
    """Ratios and differences are taken within a round, then the median."""
    straight = next(one for one in figures if not one.processes)
    routers = {one.processes: one for one in figures if one.way.startswith("lepton-router")}
    single, double = routers[1], routers[2]
    others = [one for one in figures if one.way.startswith("nginx")]
    return [
        between(
            "CPU per token, two router processes over one, flooded",
            double.flood_cpu_us,
            single.flood_cpu_us,
            lambda two, one: two / one,
            unit="×",
            at_most=1.1,
        ),
        between(
            "the same, in steps",
            double.steps_cpu_us,
            single.steps_cpu_us,
            lambda two, one: two / one,
            unit="×",
        ),
        between(
            "first token p50 through one router process, beyond asking directly",
            single.first_p50_ms,
            straight.first_p50_ms,
            lambda through, without: through - without,
            unit="ms",
            at_most=1.0,
        ),
        between(
            "the same, p99",
            single.first_p99_ms,
            straight.first_p99_ms,
            lambda through, without: through - without,
            unit="ms",
        ),
        *(
            between(
                "CPU per token in steps, one router process over nginx",
                single.steps_cpu_us,
                other.steps_cpu_us,
                lambda ours, theirs: ours / theirs,
                unit="×",
            )
            for other in others
        ),
    ]


def between(
    what: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    compare: Callable[[float, float], float],
    *,
    unit: str,
    at_most: float | None = None,
) -> Row:
    """Two ways compared within each round; the median counts."""
    each = [compare(a, b) for a, b in zip(ours, theirs, strict=True)]
    return Row(
        what=what,
        value=median(each),
        unit=unit,
        at_most=at_most,
        how=f"{min(each):.2f}–{max(each):.2f} in {len(each)} rounds",
    )
