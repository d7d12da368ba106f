"""The table of `lepton top`: what is shown of a worker, in how much room, and by what it can be sorted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.text import Text

from cli.screen import cell
from cli.top.picture import WorkerLine

__all__ = ["COLUMNS", "Column", "shown", "sorted_workers"]

_STATES: Final = {
    "ready": "green",
    "connecting": "cyan",
    "suspect": "yellow",
    "draining": "yellow",
    "ejected": "red",
    "lost": "red",
}
_BAR_CELLS: Final = 6
_MARGIN: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One of them."""

    title: str
    width: int
    """Cells."""
    show: Callable[[WorkerLine], Text]
    key: Callable[[WorkerLine], Any]
    """To sort by."""
    largest_first: bool = False
    is_extra: bool = False
    """Only where there is room."""


def _right(text: str, style: str = "") -> Text:
    return Text(text, style=style, justify="right")


def _share(value: float | None) -> Text:
    return _right("" if value is None else f"{value:.0%}")


def _kv(worker: WorkerLine) -> Text:
    filled = round(min(1.0, max(0.0, worker.kv_usage)) * _BAR_CELLS)
    style = "red" if worker.kv_usage > 0.9 else "cyan"
    bar = Text("━" * filled, style=style).append("━" * (_BAR_CELLS - filled), style="bright_black")
    return bar.append(f" {worker.kv_usage:>4.0%}", style="default")


def _first_token(worker: WorkerLine) -> Text:
    seconds = worker.first_token_s
    return _right("" if seconds is None else f"{seconds * 1e3:.0f} ms")


COLUMNS: Final = (
    Column(title="worker", width=12, show=lambda w: cell(w.id, "bold"), key=lambda w: w.id),
    Column(title="model", width=12, show=lambda w: cell(w.model), key=lambda w: (w.model, w.id)),
    Column(
        title="state",
        width=10,
        show=lambda w: cell(w.state, _STATES.get(w.state, "")),
        key=lambda w: w.state,
    ),
    Column(
        title="rows",
        width=7,
        show=lambda w: _right(f"{w.running}/{w.rows_max}"),
        key=lambda w: w.running,
        largest_first=True,
    ),
    Column(
        title="wait",
        width=4,
        show=lambda w: _right(str(w.waiting), "yellow" if w.waiting else ""),
        key=lambda w: w.waiting,
        largest_first=True,
    ),
    Column(
        title="tok/s",
        width=6,
        show=lambda w: _right(f"{w.tokens_per_s:.0f}"),
        key=lambda w: w.tokens_per_s,
        largest_first=True,
    ),
    Column(title="kv", width=11, show=_kv, key=lambda w: w.kv_usage, largest_first=True),
    Column(
        title="cache",
        width=5,
        show=lambda w: _share(w.cached),
        key=lambda w: w.cached or 0.0,
        largest_first=True,
        is_extra=True,
    ),
    Column(
        title="first",
        width=8,
        show=_first_token,
        key=lambda w: w.first_token_s or 0.0,
        largest_first=True,
        is_extra=True,
    ),
    Column(
        title="trouble",
        width=40,
        show=lambda w: cell(w.trouble.replace("\n", " "), "yellow"),
        key=lambda w: w.trouble,
        largest_first=True,
        is_extra=True,
    ),
)


def shown(width: int) -> Sequence[Column]:
    """The columns that fit into so many cells, the others left out from the right."""
    found: list[Column] = []
    left = width
    for column in COLUMNS:
        left -= column.width + _MARGIN
        if left < 0 and column.is_extra:
            break
        found.append(column)
    return found


def sorted_workers(
    workers: Sequence[WorkerLine], column: Column, *, reverse: bool
) -> list[WorkerLine]:
    """By the column, those with the most first where that is the question, then by id."""
    by_id = sorted(workers, key=lambda worker: worker.id)
    return sorted(by_id, key=column.key, reverse=column.largest_first is not reverse)
