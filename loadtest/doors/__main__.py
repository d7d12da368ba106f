"""`python -m loadtest.doors`: what the doors of one router cost beside each other, in one run.

One router process of one upstream that has every token ready is asked over gRPC, REST and WebSocket, in turns.
Needs a quiet machine and a few minutes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console

from loadtest.doors.report import aims, comparison
from loadtest.router.measure import Figures, Held, Idle, Load, hold, measure
from loadtest.router.run import main_of
from loadtest.router.upstream import STEP_S
from loadtest.router.ways import Upstream, Way, doors, upstream

__all__ = ["main"]

_IDLE_CONNECTIONS: Final = 2000
_IDLE_S: Final = 30.0
"""Longer than a heartbeat and a ping take."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, and writes what it was told to write; returns the exit code."""
    return main_of(
        "loadtest.doors",
        __doc__ or "",
        arguments,
        part="doors",
        run=_run,
        words=_words,
        comparison=comparison,
        aims=aims,
    )


def _run(load: Load, rounds: int) -> tuple[list[Figures], list[str]]:
    with (
        TemporaryDirectory(prefix="lepton-doors-") as folder,
        Console(stderr=True).status("starting") as status,
        upstream(Path(folder)) as worker,
        doors(worker) as ways,
    ):
        held_open = partial(_held_open, worker)
        return measure(ways, load, rounds=rounds, tell=status.update, held_open=held_open), []


def _held_open(worker: Upstream, way: Way) -> Held:
    """By a router of its own, which has no memory left from another door's crowd."""
    # A WebSocket is there before anything is asked; a stream of the others is what is asked.
    streams = 0 if way.door == "websocket" else 1
    with doors(worker) as ways:
        fresh = next(one for one in ways if one.door == way.door)
        hold(fresh, Idle(connections=1, streams=streams))
        crowd = Idle(connections=_IDLE_CONNECTIONS, streams=streams, seconds=_IDLE_S)
        return hold(fresh, crowd)


def _words(load: Load) -> str:
    streams = load.connections * load.streams
    return (
        f"One router process; {streams} streams (gRPC and WebSocket: {load.streams} on a connection), {load.tokens} "
        "tokens each; the upstream has them ready and sends one per message. *Flooded*: as fast as they are taken. *In "
        f"steps*: one token per stream every {1e3 * STEP_S:g} ms, as an engine sends them. A *call* here has one "
        f"token. *Idle*: {_IDLE_CONNECTIONS:,} connections, each with a stream that got one token and then nothing "
        f"(WebSocket: with nothing asked), for {_IDLE_S:g} s, on a router of its own; memory is resident memory over "
        "none. CPU is that of the router, from `/proc`; medians."
    )


if __name__ == "__main__":
    sys.exit(main())
