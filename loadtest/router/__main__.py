"""`python -m loadtest.router`: what a relayed token costs, beside nginx, in one run.

The same saturating upstream is asked directly, through nginx `grpc_pass`, through one router process and through two,
in turns. Needs a quiet machine and a few minutes. Without nginx its row is missing, and the page says why.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from loadtest.router.measure import Figures, Load, measure
from loadtest.router.report import aims, comparison
from loadtest.router.run import main_of
from loadtest.router.upstream import STEP_S
from loadtest.router.ways import NO_NGINX, direct, nginx, router, upstream

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, and writes what it was told to write; returns the exit code."""
    return main_of(
        "loadtest.router",
        __doc__ or "",
        arguments,
        part="router",
        run=_run,
        words=_words,
        comparison=comparison,
        aims=aims,
    )


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


def _words(load: Load) -> str:
    streams = load.connections * load.streams
    return (
        f"{streams} streams on {load.connections} connections, {load.tokens} tokens each, one per message; the "
        "upstream has them ready. *Flooded*: as fast as they are taken. *In steps*: one token per stream every "
        f"{1e3 * STEP_S:g} ms, as an engine sends them. A *call* here has one token. The first row is what the "
        "two ends can do. CPU is that of the processes between them, from `/proc`; medians."
    )


if __name__ == "__main__":
    sys.exit(main())
