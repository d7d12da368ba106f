"""`python -m loadtest.doors`: what a token costs at the REST door of a router, beside gRPC, in one run.

The same saturating upstream is asked through both doors of one router process, in turns. Needs a quiet machine.
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
from loadtest.router.measure import Figures, Load, idle_bytes, measure
from loadtest.router.report import between, comparison
from loadtest.router.ways import doors, upstream
from loadtest.table import Table

__all__ = ["main"]

CPU_RATIO_MAX = 1.3
FIRST_MS_MAX = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.doors", description=__doc__)
    add, usual = parser.add_argument, Load()
    add("--rounds", type=int, default=5, help="after one that warms up")
    add("--seconds", type=float, default=usual.seconds, help="of each measurement")
    add("--json", action="store_true", help="JSON on stdout")
    add("--save", type=Path, help="keep all figures as JSON in this file")
    wish = parser.parse_args(arguments)
    with (
        TemporaryDirectory(prefix="lepton-doors-") as folder,
        ExitStack() as stack,
        Console(stderr=True).status("starting") as status,
    ):
        worker = stack.enter_context(upstream(Path(folder)))
        with doors(worker) as ways:
            load = Load(seconds=wish.seconds)
            figures = measure(ways, load, rounds=wish.rounds, tell=status.update, idle=False)
        for number, into in enumerate(figures):
            status.update(f"open streams: {into.way}")
            with doors(
                worker
            ) as ways:  # a fresh process: memory that was used once is there to be used again
                into.idle_stream_bytes = idle_bytes(ways[number])
    rows = aims(*figures)
    kept = {
        "facts": machine_facts(),
        "ways": [asdict(one) for one in figures],
        "aims": [asdict(one) for one in rows],
    }
    if wish.save:
        wish.save.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    if wish.json:
        json.dump(kept, sys.stdout, indent=1)
        return 0
    head = ("what", "measured", "aim", "met", "from")
    Console().print(comparison(figures).rich())
    Console().print(Table(title="", head=head, rows=[row.cells() for row in rows]).rich())
    return 0


def aims(grpc: Figures, rest: Figures) -> list[Row]:
    """Ratios and differences are taken within a round, then the median."""
    return [
        between(
            "CPU per token, REST over gRPC, flooded",
            rest.flood_cpu_us,
            grpc.flood_cpu_us,
            lambda ours, theirs: ours / theirs,
            unit="×",
            at_most=CPU_RATIO_MAX,
        ),
        between(
            "the same, in steps",
            rest.steps_cpu_us,
            grpc.steps_cpu_us,
            lambda ours, theirs: ours / theirs,
            unit="×",
            at_most=CPU_RATIO_MAX,
        ),
        between(
            "first message p50, REST beyond gRPC",
            rest.first_p50_ms,
            grpc.first_p50_ms,
            lambda ours, theirs: ours - theirs,
            unit="ms",
            at_most=FIRST_MS_MAX,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
