"""`python -m loadtest.soak`: random calls on a worker process for minutes; its memory must be flat at the end.

Files, threads and tasks must be as few as after the first round, and every call must end as it may. Exit codes: 0 all
of that holds; 1 something does not, it cannot be told, or the worker did not start or ended by itself: its log, which
the last line names, says more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from common.clock import SystemClock
from common.errors import LeptonError
from loadtest.soak.flat import Flatness, flatness
from loadtest.soak.process import observed_worker
from loadtest.soak.run import Soak, run_rounds

__all__ = ["main"]

FLAGS: Final[dict[str, object]] = {
    "threads": 1, "rows-max": 8, "prefix-cache-mib": 4, "waiting-sequences-max": 48,
    "grammar-processes": 1,
}  # fmt: skip
"""Small bounds: all of them are reached within the first rounds, and some calls are refused."""

TOLD_EVERY_S: Final = 60.0
"""How often a run whose output goes to a file says where it is."""
THREADS_SPARE: Final = 8
"""Threads more than after the first round that are no sign of anything: pools start theirs as they need them."""
_SAID: Final = {
    "flat": "memory is flat", "leaks": "MEMORY LEAKS", "unclear": "whether memory is flat cannot be told: run longer",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Soaks and judges; returns the exit code."""
    wish = _parser().parse_args(arguments)
    talk = Console(stderr=True)
    try:
        soak = asyncio.run(_soak(wish, talk))
    except (LeptonError, ExceptionGroup) as error:
        first = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
        talk.print(f"error: {first!s}", highlight=False, markup=False)
        _name_log(talk, wish.log)
        return 1
    faults = [*soak.faults, *_threads_left(soak)]
    judged: Flatness | None = None
    try:
        judged = flatness(soak.points, limit=wish.limit, warm_up=wish.warm_up)
    except ValueError as error:
        faults.append(str(error))
    if wish.json:
        json.dump(_as_json(soak, judged, faults), sys.stdout, indent=2)
        print()
    else:
        _show(soak, judged, faults)
    if judged is not None and judged.verdict == "flat" and not faults:
        return 0
    _name_log(talk, wish.log)
    return 1


def _name_log(talk: Console, log: Path) -> None:
    talk.print(f"the worker's log: {log}", highlight=False, markup=False, soft_wrap=True)


async def _soak(wish: argparse.Namespace, talk: Console) -> Soak:
    clock = SystemClock()
    talk.print(f"seed {wish.seed}", highlight=False)
    wish.log.unlink(missing_ok=True)
    with talk.status("starting") as status:
        async with observed_worker(
            wish.log, wish.model, leak_kib=wish.plant_leak, flags=FLAGS
        ) as worker:
            told_at = 0.0

            def show(soak: Soak) -> None:
                nonlocal told_at
                now = f"{soak.seconds:.0f} s, {soak.requests} calls, {soak.points[-1].rss / 1e6:.1f} MB"
                status.update(now)
                if not talk.is_terminal and soak.seconds >= told_at + TOLD_EVERY_S:
                    told_at = soak.seconds
                    talk.print(now, highlight=False)

            return await run_rounds(
                worker,
                clock,
                seed=wish.seed,
                requests=wish.requests,
                callers=wish.callers,
                go_on=lambda soak: (
                    len(soak.points) < wish.rounds
                    if wish.rounds
                    else soak.seconds < 60 * wish.minutes or soak.requests < wish.calls
                ),
                on_round=show,
            )


def _threads_left(soak: Soak) -> list[str]:
    """A thread per call or connection would show."""
    first, last = soak.first, soak.last
    if first is None or last is None or last.threads <= first.threads + THREADS_SPARE:
        return []
    return [f"{last.threads} threads, {first.threads} after the first round"]


def _show(soak: Soak, judged: Flatness | None, faults: Sequence[str]) -> None:
    console = Console(highlight=False)
    if judged is not None:
        hourly = 3600 * soak.requests / soak.seconds / 1e6
        console.print(
            f"{_SAID[judged.verdict]}: {judged.slope:+.0f} bytes per call, 95 % between {judged.low:+.0f} and "
            f"{judged.high:+.0f}, limit {judged.limit:.0f} (at this rate {judged.slope * hourly:+.1f} MB an hour)"
        )
    console.print(
        f"{soak.requests} calls in {soak.seconds:.0f} s, {len(soak.points)} rounds: {dict(soak.outcomes)}"
    )
    console.print(f"after the first round {soak.first}")
    console.print(f"after the last        {soak.last}")
    for fault in faults:
        console.print(f"broken: {fault}", markup=False)


def _as_json(soak: Soak, judged: Flatness | None, faults: Sequence[str]) -> dict[str, Any]:
    return {
        "memory": None if judged is None else asdict(judged),
        "calls": soak.requests,
        "seconds": soak.seconds,
        "outcomes": soak.outcomes,
        "first": None if soak.first is None else asdict(soak.first),
        "last": None if soak.last is None else asdict(soak.last),
        "samples": [asdict(point) for point in soak.points],
        "faults": list(faults),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.soak", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=5.0, help="at least")
    add("--calls", type=int, default=15000, help="at least: a slow machine takes longer")
    add("--rounds", type=int, default=0, help="so many rounds instead of either")
    add("--requests", type=int, default=100, help="calls of a round")
    add("--callers", type=int, default=32, help="at once")
    add("--model", type=Path, default=Path("models/demo"), help="model folder")
    add("--warm-up", type=int, default=5000, help="calls before memory counts, at least")
    add("--limit", type=float, default=256.0, help="growth that is no leak, bytes per call")
    add(
        "--plant-leak",
        type=int,
        default=0,
        metavar="KIB",
        help="memory that the worker loses with each call",
    )
    add("--seed", type=int, default=1)
    add("--log", type=Path, default=Path(".lepton/soak/worker.log"), help="of the worker")
    add("--json", action="store_true", help="JSON on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
