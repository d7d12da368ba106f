"""Figures → a table: medians over the rounds, and how we stand beside the best of the others, round by round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from rich.table import Table

from loadtest.engines.contest import Figure, Measure

__all__ = ["figures_table", "ratios", "to_json"]


def figures_table(figures: Sequence[Figure], ours: Sequence[str], others: Sequence[str]) -> Table:
    """Tokens/s: a line for each label, a column for each measure; below, each of ours over the best of the others."""
    measures = _measures(figures)
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("tokens/s", no_wrap=True)
    for measure in measures:
        table.add_column(str(measure), justify="right", no_wrap=True)
    for label in (*ours, *others):
        table.add_row(label, *(f"{median(_rates(figures, label, m)):.0f}" for m in measures))
    for label in ours if others else ():
        row = []
        for measure in measures:
            found = ratios(figures, measure, label, others)
            row.append(f"{median(found):.2f} ({min(found):.2f}-{max(found):.2f})")
        table.add_row(f"{label} / best other", *row)
    return table


def ratios(
    figures: Sequence[Figure], measure: Measure, label: str, others: Sequence[str]
) -> list[float]:
    """Of each round: `label`'s rate over the best rate of `others` (at least one)."""
    by_round: dict[int, dict[str, float]] = {}
    for figure in figures:
        if figure.measure == measure:
            by_round.setdefault(figure.round, {})[figure.label] = figure.tokens_per_s
    return [rates[label] / max(rates[other] for other in others) for rates in by_round.values()]


def to_json(figures: Sequence[Figure], facts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Everything as JSON data."""
    return {"engines": facts, "figures": [asdict(figure) for figure in figures]}


def _measures(figures: Sequence[Figure]) -> list[Measure]:
    return list(dict.fromkeys(figure.measure for figure in figures))


def _rates(figures: Sequence[Figure], label: str, measure: Measure) -> list[float]:
    return [f.tokens_per_s for f in figures if f.label == label and f.measure == measure]
