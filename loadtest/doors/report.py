"""The figures as tables: every door beside gRPC, and what was aimed at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import sub, truediv
from statistics import median
from typing import Final

from loadtest.latency.row import Row
from loadtest.router.measure import Figures
from loadtest.router.report import between
from loadtest.table import Table

__all__ = ["aims", "comparison"]

_HEAD: Final = (
    "door",
    "tokens/s, flooded",
    "tokens per message",
    "CPU µs per token, flooded",
    "CPU µs per token, in steps",
    "CPU µs per call",
    "first token p50 / p99 ms",
    "KiB per idle connection",
    "of them lost",
)
_CPU_AIM: Final = 1.3
_ADDED_MS_AIM: Final = 2.0


def comparison(figures: Sequence[Figures]) -> Table:
    """Medians of the rounds."""
    return Table(title="", head=_HEAD, rows=[_cells(one) for one in figures])


def _cells(one: Figures) -> list[str]:
    idle_kib = 0.0 if one.idle_stream_bytes is None else one.idle_stream_bytes / 1024
    return [
        one.way,
        f"{median(one.tokens_per_s):,.0f}",
        f"{median(one.tokens_per_message):.2f}",
        f"{median(one.flood_cpu_us):.1f}",
        f"{median(one.steps_cpu_us):.1f}",
        f"{median(one.call_cpu_us):,.0f}",
        f"{median(one.first_p50_ms):.2f} / {median(one.first_p99_ms):.2f}",
        f"{idle_kib:.0f}",
        str(one.idle_lost),
    ]


def aims(figures: Sequence[Figures]) -> list[Row]:
    """Of every door but the first, which is gRPC; ratios and differences are taken within a round."""
    grpc, *others = figures
    rows: list[Row] = []
    for door in others:

        def beside(
            what: str,
            of: Callable[[Figures], Sequence[float]],
            compare: Callable[[float, float], float],
            unit: str,
            aim: float | None = None,
            door: Figures = door,
        ) -> Row:
            return between(
                f"{door.way}: {what}", of(door), of(grpc), compare, unit=unit, at_most=aim
            )

        rows += [
            beside(
                "CPU per token over gRPC's, flooded",
                lambda one: one.flood_cpu_us,
                truediv,
                "×",
                _CPU_AIM,
            ),
            beside(
                "CPU per token over gRPC's, in steps",
                lambda one: one.steps_cpu_us,
                truediv,
                "×",
                _CPU_AIM,
            ),
            beside("CPU per call over gRPC's", lambda one: one.call_cpu_us, truediv, "×"),
            beside(
                "first token p50, beyond gRPC's",
                lambda one: one.first_p50_ms,
                sub,
                "ms",
                _ADDED_MS_AIM,
            ),
        ]
        if door.idle_lost is not None:
            rows.append(
                Row(what=f"{door.way}: idle connections lost", value=door.idle_lost, at_most=0)
            )
    return rows
