"""A measurement from its command line to its page: what `loadtest.router` and `loadtest.doors` have in common."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from cli.bench.machine import machine_facts
from loadtest.latency.row import Row
from loadtest.page import replace_part
from loadtest.router.measure import Figures, Load
from loadtest.table import Table

__all__ = ["main_of"]


def main_of(
    program: str,
    about: str,
    arguments: Sequence[str] | None,
    *,
    part: str,
    run: Callable[[Load, int], tuple[list[Figures], list[str]]],
    words: Callable[[Load], str],
    comparison: Callable[[Sequence[Figures]], Table],
    aims: Callable[[Sequence[Figures]], list[Row]],
) -> int:
    """Runs `run` with a load and a number of rounds, prints, and writes what it was told to write; returns the exit
    code. `run` also says what is missing; `words` says what was measured how, `part` is the part of the page.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=about)
    add, usual = parser.add_argument, Load()
    add("--rounds", type=int, default=5, help="after one that warms up")
    add("--seconds", type=float, default=usual.seconds, help="of each measurement")
    add("--connections", type=int, default=usual.connections)
    add("--streams", type=int, default=usual.streams, help="on each connection")
    add("--json", action="store_true", help="JSON on stdout")
    add("--save", type=Path, help="keep all figures as JSON in this file")
    add("--write", type=Path, help="put the tables into this page, between its markers")
    wish = parser.parse_args(arguments)
    load = Load(seconds=wish.seconds, connections=wish.connections, streams=wish.streams)
    figures, missing = run(load, wish.rounds)
    table, rows = comparison(figures), aims(figures)
    facts = {**machine_facts(), "rounds": str(wish.rounds)}
    kept = {
        "facts": facts,
        "load": asdict(load),
        "missing": missing,
        "ways": [asdict(one) for one in figures],
        "aims": [asdict(one) for one in rows],
    }
    if wish.save:
        wish.save.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    if wish.write:
        said = "; ".join(f"{name}: {value}" for name, value in facts.items())
        tables = (table.markdown(), _aims_table(rows).markdown())
        replace_part(wish.write, part, "\n\n".join([f"{said}.", words(load), *tables, *missing]))
    if wish.json:
        json.dump(kept, sys.stdout, indent=1)
    else:
        console = Console()
        console.print(table.rich())
        console.print(_aims_table(rows).rich())
        for line in missing:
            console.print(line)
    return 0


def _aims_table(rows: Sequence[Row]) -> Table:
    return Table(
        title="",
        head=("what", "measured", "aim", "met", "from"),
        rows=[one.cells() for one in rows],
    )
