"""`python -m chaos NAME …`: runs scenarios and prints their ledgers; `lepton chaos run` does it with more colour."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from chaos.run import run_scenario
from chaos.scenario import load_scenario, names
from common.clock import SystemClock

__all__ = ["main"]


def _tell(line: str) -> None:
    sys.stderr.write(f"  {line}\n")


def main() -> int:
    """Returns 0 when every run is as it should be."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("name", nargs="*", default=list(names()))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--times", type=int, help="instead of each fault's own")
    parser.add_argument(
        "--expect-fail", action="store_true", help="with the protection switched off: must fail"
    )
    wish = parser.parse_args()
    ok = True
    for name in wish.name:
        scenario = load_scenario(name)
        if wish.times:
            faults = [fault.model_copy(update={"times": wish.times}) for fault in scenario.fault]
            scenario = scenario.model_copy(update={"fault": tuple(faults)})
        outcome = asyncio.run(
            run_scenario(
                scenario,
                clock=SystemClock(),
                seed=wish.seed,
                control=wish.expect_fail,
                tell=_tell,
            )
        )
        sys.stdout.write(json.dumps(outcome.as_json(), indent=1) + "\n")
        ok &= outcome.is_right
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
