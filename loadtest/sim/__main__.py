"""`python -m loadtest.sim`: the router's core in hundreds of simulated clusters, by seed.

Every policy meets the same worlds. Exit codes: 0 nothing happened that may never happen; 1 something did, and the
command that shows it again is printed; 2 a wrong command line.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean, median

from rich.console import Console
from rich.progress import Progress

from loadtest.sim.measure import SLO_FIRST_S
from loadtest.sim.runs import COMPARED, GUESSING, NO_AFFINITY, Run, run_seeds
from loadtest.table import Table
from router.core.policy.registry import POLICIES

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs, shows and judges; returns the exit code."""
    wish = _parser().parse_args(arguments)
    first = next(iter(POLICIES))
    policies = wish.policy or [*POLICIES, f"{first}{GUESSING}", f"{first}{NO_AFFINITY}"]
    seeds = range(wish.seed, wish.seed + wish.seeds)
    talk = Console(stderr=True)
    runs = []
    with Progress(console=talk, transient=True) as progress:
        task = progress.add_task(
            "simulating", total=len(seeds) + len(seeds[::COMPARED]) * (len(policies) - 1)
        )
        for run in run_seeds(seeds, policies, wish.workers):
            runs.append(run)
            progress.advance(task)
    bad = [run for run in runs if run.numbers.faults]
    if wish.json:
        json.dump([asdict(run) for run in runs], sys.stdout, indent=2)
        print()
    else:
        compared = set(seeds[::COMPARED])
        Console().print(_table([run for run in runs if run.seed in compared], policies).rich())
        Console().print(f"{len(runs)} runs in all, {len(bad)} with a broken rule")
    for run in bad[:10]:
        talk.print(
            f"seed {run.seed} ({run.workers} workers, {run.routers} routers, {', '.join(run.faults) or 'no fault'}): "
            f"{'; '.join(run.numbers.faults)}\n"
            f"  again: python -m loadtest.sim --seed {run.seed} --seeds 1 --policy {run.policy}",
            style="red",
            highlight=False,
        )
    return 1 if bad else 0


def _table(runs: Sequence[Run], policies: Sequence[str]) -> Table:
    rows = []
    for policy in policies:
        of = [run.numbers for run in runs if run.policy == policy]
        rows.append(
            (
                policy,
                f"{fmean(n.good for n in of):.1%}",
                f"{fmean(n.refused for n in of):.1%}",
                f"{fmean(n.lost for n in of):.2%}",
                f"{fmean(n.hits for n in of):.0%}",
                f"{median(n.imbalance for n in of):.2f}",
                f"{fmean(n.amplification for n in of):.3f}",
                f"{median(n.first_p99_s for n in of):.2f} s",
            )
        )
    return Table(
        title=f"{len(runs) // len(policies)} worlds; good: whole, and the first token within {SLO_FIRST_S:g} s",
        head=(
            "policy", "good", "refused", "lost", "cache hits of oracle", "busiest over mean",
            "attempts per request", "p99 to first token",
        ),
        rows=rows,
    )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=50, help="how many worlds (50)")
    parser.add_argument("--seed", type=int, default=1, help="the first of them (1)")
    parser.add_argument("--workers", type=int, help="workers of every world (random)")
    parser.add_argument(
        "--policy", action="append", choices=sorted(POLICIES), help="one of them (all)"
    )
    parser.add_argument("--json", action="store_true", help="every run as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
