"""Runs the scenarios of `chaos/scenarios`, prints the ledger, writes it into docs/reliability.md.

Exit code 0 when every promise was kept and every control failed, else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
from pathlib import Path
from typing import Final

from rich.console import Console

from chaos.outcome import Outcome
from chaos.run import run_scenario
from chaos.scenario import Scenario, load_scenario, names
from chaos.schedule import drawn
from cli.chaos_view import outcomes_table
from common.clock import SystemClock
from common.errors import LeptonError
from loadtest.chaos.report import failed_to_run, page_of
from loadtest.page import replace_part

__all__ = ["main"]

_RANDOM_FAULTS: Final = 8


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.chaos", description=__doc__)
    add = parser.add_argument
    add("--only", default="", help="names, comma-separated; default: all")
    add("--seed", type=int, default=1, help="decides who is hit, and when")
    add("--times", type=int, help="how often each fault is done, instead of its own number")
    add("--no-controls", action="store_true", help="do not prove that a run can fail")
    add("--save", type=Path, help="write the outcomes as JSON")
    add("--write", type=Path, help="page with a part `ledger` to write into")
    wish = parser.parse_args()
    console = Console(highlight=False)
    chosen = wish.only.split(",") if wish.only else (*names(), "random")
    outcomes = _run_all(
        [
            drawn(wish.seed, _RANDOM_FAULTS) if name == "random" else load_scenario(name)
            for name in chosen
        ],
        console,
        seed=wish.seed,
        times=wish.times,
        controls=not wish.no_controls,
    )
    console.print(outcomes_table(outcomes))
    if wish.save:
        data = {
            "machine": f"{os.cpu_count()} cores, {platform.machine()}",
            "seed": wish.seed,
            "outcomes": [outcome.as_json() for outcome in outcomes],
        }
        wish.save.write_text(json.dumps(data, indent=1) + "\n", "utf-8")
    if wish.write:
        replace_part(wish.write, "ledger", page_of(outcomes))
    wrong = [outcome for outcome in outcomes if not outcome.is_right]
    took_s = sum(outcome.took_s for outcome in outcomes)
    console.print(
        f"\n{len(outcomes) - len(wrong)} of {len(outcomes)} as they should be, {took_s / 60:.1f} minutes, "
        f"seed {wish.seed}"
    )
    return 1 if wrong else 0


def _run_all(
    scenarios: list[Scenario], console: Console, *, seed: int, times: int | None, controls: bool
) -> list[Outcome]:
    outcomes = []
    runs = [
        (scenario, control)
        for scenario in scenarios
        for control in ((False, True) if scenario.control and controls else (False,))
    ]
    for number, (scenario, control) in enumerate(runs, start=1):
        what = "protection off, must fail: " if control else ""
        console.print(
            f"[dim]{number:2d}/{len(runs)}[/] [bold]{scenario.name}[/] {what}{scenario.title}"
        )
        if times:
            faults = tuple(f.model_copy(update={"times": times}) for f in scenario.fault)
            scenario = scenario.model_copy(update={"fault": faults})
        try:
            outcome = asyncio.run(
                run_scenario(scenario, clock=SystemClock(), seed=seed, control=control)
            )
        except* LeptonError as group:  # it does not start with these settings, say
            outcome = failed_to_run(scenario, group, seed=seed, control=control)
        mark = "[green]✓[/]" if outcome.is_right else "[red]✗[/]"
        console.print(f"      {mark} {outcome.took_s:.0f} s  {'; '.join(outcome.why)}", markup=True)
        outcomes.append(outcome)
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
