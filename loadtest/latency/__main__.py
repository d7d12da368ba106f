"""`python -m loadtest.latency --model DIR`: what stands between the engine and its users, each number beside its aim.

Through router and gRPC against the engine alone; a long prompt among streams; a second chat turn; resident memory. Runs
for a minute or two, needs a quiet machine, and starts a cluster of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Console

from cli.bench.machine import machine_facts
from loadtest.latency.cluster import cluster_rows
from loadtest.latency.engine import engine_rows
from loadtest.latency.row import Row
from loadtest.page import replace_part
from loadtest.table import Table

__all__ = ["main"]

PARTS: Final[dict[str, Callable[..., Iterator[Row]]]] = {
    "cluster": cluster_rows,
    "engine": engine_rows,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, and writes what it was told to write; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.latency", description=__doc__)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="model folder")
    add("--mode", choices=("exact", "fast"), default="exact")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of the engine")
    add("--context-max", type=int, default=4352, help="room of each stream, tokens")
    add("--only", choices=tuple(PARTS), help="one half of it")
    add("--json", action="store_true", help="JSON on stdout")
    add("--write", type=Path, help="put the table into this page, between its markers")
    wish = parser.parse_args(arguments)
    rows: list[Row] = []
    with Console(stderr=True).status("measuring"):
        for name, measured in PARTS.items():
            if wish.only in (None, name):
                rows += measured(
                    wish.model.resolve(),
                    mode=wish.mode,
                    threads=wish.threads,
                    context_max=wish.context_max,
                )
    facts = {**machine_facts(), "model": wish.model.name, "mode": wish.mode}
    table = Table(
        title="",
        head=("what", "measured", "aim", "met", "from"),
        rows=[one.cells() for one in rows],
    )
    if wish.write:
        said = "; ".join(f"{name}: {value}" for name, value in facts.items())
        replace_part(wish.write, "latency", f"{said}.\n\n{table.markdown()}")
    if wish.json:
        json.dump({"facts": facts, "rows": [asdict(one) for one in rows]}, sys.stdout, indent=1)
    else:
        Console().print(table.rich())
    return 0


if __name__ == "__main__":
    sys.exit(main())
