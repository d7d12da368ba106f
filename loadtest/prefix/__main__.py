"""`python -m loadtest.prefix`: how much of what could be cached is found, and how evenly the work is spread.

Four workers with the oracle engine, one router or three, questions about documents that no worker can hold all. Each
way gets the same questions in a cluster of its own. Exit codes: 0 the aims are met; 1 one is missed, or a request
failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console

from common.clock import SystemClock
from loadtest.latency.row import Row
from loadtest.page import replace_part
from loadtest.prefix.measure import WORKERS, Figures, Way, measure
from loadtest.prefix.questions import make_questions
from loadtest.table import Table

__all__ = ["main"]

_WAYS: Final = (
    Way(name="one router", routers=1),
    Way(name="three routers", routers=3),
    Way(name="three routers that only guess", routers=3, told=False),
    Way(name="three routers without affinity", routers=3, told=False, affinity=False),
)
_AIMED: Final = 2
"""The first ones have aims; the others are there to compare."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, and writes what it was told to write; returns the exit code."""
    wish = _parser().parse_args(arguments)
    questions = make_questions(wish.requests, per_s=wish.per_s, seed=wish.seed)
    figures = []
    with Console(stderr=True).status("starting") as status:
        for way in _WAYS[: wish.ways]:
            status.update(f"asking {way.name}")
            with TemporaryDirectory(prefix="lepton-prefix-") as folder:
                run = measure(way, questions, Path(folder), SystemClock())
                figures.append(asyncio.run(run))
    rows = list(_aims(figures))
    if wish.write:
        words = (
            f"{WORKERS} workers with the oracle engine, {wish.requests} questions about 60 documents in an open loop "
            f"of {wish.per_s:g} per second; a worker's cache holds a third of the documents."
        )
        tables = (_table(figures).markdown(), _aims_table(rows).markdown())
        replace_part(wish.write, "prefix", "\n\n".join([words, *tables]))
    if wish.json:
        kept = {"ways": list(map(asdict, figures)), "aims": list(map(asdict, rows))}
        json.dump(kept, sys.stdout, indent=1)
        print()
    else:
        console = Console()
        console.print(_table(figures).rich())
        console.print(_aims_table(rows).rich())
    return 0 if all(row.is_met for row in rows) else 1


def _aims(figures: Sequence[Figures]) -> Iterator[Row]:
    for one in figures[:_AIMED]:
        yield Row(what=f"{one.way}: hits over the oracle's", value=one.hits, at_least=0.9)
        yield Row(what=f"{one.way}: busiest over mean", value=one.imbalance, at_most=1.5)
        yield Row(what=f"{one.way}: requests that failed", value=one.failed, at_most=0)


def _table(figures: Sequence[Figures]) -> Table:
    return Table(
        title="",
        head=("way", "requests", "hits over the oracle's", "busiest over mean", "failed"),
        rows=[
            (f.way, str(f.requests), f"{f.hits:.1%}", f"{f.imbalance:.2f}", str(f.failed))
            for f in figures
        ],
    )


def _aims_table(rows: Sequence[Row]) -> Table:
    return Table(
        title="",
        head=("what", "measured", "aim", "met"),
        rows=[row.cells()[:4] for row in rows],
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.prefix", description=__doc__)
    add = parser.add_argument
    add("--requests", type=int, default=500, help="of each way (500)")
    add("--per-s", type=float, default=15.0, help="arrivals per second (15)")
    add("--seed", type=int, default=1, help="decides what is asked (1)")
    add("--ways", type=int, default=len(_WAYS), help="only the first so many ways")
    add("--json", action="store_true", help="JSON on stdout")
    add("--write", type=Path, help="put the tables into this page, between its markers")
    return parser


if __name__ == "__main__":
    sys.exit(main())
