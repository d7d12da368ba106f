"""`python -m loadtest.router`: what a relayed token costs, beside nginx, in one run.

The same saturating upstream is asked directly, through nginx `grpc_pass`, through one router process and through two,
in turns. Needs a quiet machine and a few minutes. Without nginx its row is missing, and the page says why.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from cli.bench.machine import machine_facts
from loadtest.latency.row import Row
from loadtest.page import replace_part
from loadtest.router.measure import Figures, Load, measure
from loadtest.router.report import aims, comparison
from loadtest.router.upstream import STEP_S
from loadtest.router.ways import NO_NGINX, direct, nginx, router, upstream
from loadtest.table import Table

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, and writes what it was told to write; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.router", description=__doc__)
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
    figures, missing = _run(load, wish.rounds)
    rows = aims(figures)
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
        replace_part(wish.write, "router", _page(facts, load, figures, rows, missing))
    if wish.json:
        json.dump(kept, sys.stdout, indent=1)
    else:
        console = Console()
        console.print(comparison(figures).rich())
        console.print(_aims_table(rows).rich())
        for line in missing:
            console.print(line)
    return 0


def _run(load: Load, rounds: int) -> tuple[list[Figures], list[str]]:
    with (
        TemporaryDirectory(prefix="lepton-router-") as folder,
        ExitStack() as stack,
        Console(stderr=True).status("starting") as status,
    ):
        worker = stack.enter_context(upstream(Path(folder)))
        ways = [stack.enter_context(direct(worker))]
        proxy = nginx(worker, Path(folder) / "nginx")
        if proxy is not None:
            ways.append(stack.enter_context(proxy))
        ways += [stack.enter_context(router(worker, processes)) for processes in (1, 2)]
        figures = measure(ways, load, rounds=rounds, tell=status.update)
    return figures, [] if proxy is not None else [f"Left out: {NO_NGINX}."]


def _aims_table(rows: Sequence[Row]) -> Table:
    return Table(
        title="",
        head=("what", "measured", "aim", "met", "from"),
        rows=[one.cells() for one in rows],
    )


def _page(
    facts: dict[str, str],
    load: Load,
    figures: Sequence[Figures],
    rows: Sequence[Row],
    missing: Sequence[str],
) -> str:
    said = "; ".join(f"{name}: {value}" for name, value in facts.items())
    streams = load.connections * load.streams
    return "\n\n".join(
        [
            f"{said}.",
            f"{streams} streams on {load.connections} connections, {load.tokens} tokens each, one per message; the "
            "upstream has them ready. *Flooded*: as fast as they are taken. *In steps*: one token per stream every "
            f"{1e3 * STEP_S:g} ms, as an engine sends them. A *call* here has one token. The first row is what the "
            "two ends can do. CPU is that of the processes between them, from `/proc`; medians.",
            comparison(figures).markdown(),
            _aims_table(rows).markdown(),
            *missing,
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
