"""Rounds in which every way has its turn, so that a drift of the machine touches all alike."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from cli.bench.spread import percentile
from loadtest.router.ways import ROOT, Way

__all__ = ["Figures", "Held", "Idle", "Load", "hold", "measure"]

CALL_TOKENS: Final = 1
"""Of the streams by which the cost of a call is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked."""

    connections: int = 16
    """Enough that the kernel deals them about evenly to two processes."""
    streams: int = 2
    """On each connection."""
    tokens: int = 500
    """Of each stream."""
    seconds: float = 3.0
    """Of each measurement."""
    first: int = 200
    """Streams, one after the other, whose first message is timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """What is held open, and for how long."""

    connections: int = 4
    streams: int = 250
    """On each connection; below what one may have anywhere. 0: connections on which nothing was asked."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What became of it."""

    opened: int
    """Streams, or connections that ask nothing."""
    bytes_each: float
    """Resident memory for each of them."""
    lost: int
    """Connections that were closed although nobody on our side did."""


@dataclass(slots=True, kw_only=True)
class Figures:
    """Of one way, one number per round."""

    way: str
    processes: int
    tokens_per_s: list[float] = field(default_factory=list)
    """Flooded."""
    tokens_per_message: list[float] = field(default_factory=list)
    """More than 1 where messages were merged."""
    flood_cpu_us: list[float] = field(default_factory=list)
    """CPU of the way per token, flooded, microseconds."""
    steps_cpu_us: list[float] = field(default_factory=list)
    """The same with one token per stream and step."""
    call_cpu_us: list[float] = field(default_factory=list)
    """CPU of the way per call of one token, microseconds."""
    first_p50_ms: list[float] = field(default_factory=list)
    first_p99_ms: list[float] = field(default_factory=list)
    idle_stream_bytes: float | None = None
    """Resident memory per open stream, or connection, on which nothing happens."""
    idle_lost: int | None = None
    """How many such connections were lost."""


def measure(
    ways: Sequence[Way],
    load: Load,
    *,
    rounds: int,
    tell: Callable[[str], None],
    held_open: Callable[[Way], Held] = lambda way: hold(way, Idle()),
) -> list[Figures]:
    """One round more than `rounds` is run; the first warms up and does not count. `held_open` holds streams or
    connections of a way open afterwards.
    """
    figures = [Figures(way=way.name, processes=way.processes) for way in ways]
    for number in range(rounds + 1):
        for way, into in zip(ways, figures, strict=True):
            tell(f"round {number} of {rounds}: {way.name}")
            scratch = into if number else Figures(way=way.name, processes=way.processes)
            _one_round(way, load, scratch)
    for way, into in zip(ways, figures, strict=True):
        if way.pid is not None:
            tell(f"open streams: {way.name}")
            held = held_open(way)
            into.idle_stream_bytes, into.idle_lost = held.bytes_each, held.lost
    return figures


def _one_round(way: Way, load: Load, into: Figures) -> None:
    flood, cpu_s = _load(way, "flood", load, load.tokens)
    into.tokens_per_s.append(flood["tokens"] / flood["seconds"])
    into.tokens_per_message.append(flood["tokens"] / flood["messages"])
    into.flood_cpu_us.append(1e6 * cpu_s / flood["tokens"])
    steps, cpu_s = _load(way, "steps", load, load.tokens)
    into.steps_cpu_us.append(1e6 * cpu_s / steps["tokens"])
    calls, cpu_s = _load(way, "flood", load, CALL_TOKENS)
    into.call_cpu_us.append(1e6 * cpu_s / calls["tokens"])
    times = sorted(_client(way, "first", "--requests", str(load.first))["first_s"])
    into.first_p50_ms.append(1e3 * median(times))
    into.first_p99_ms.append(1e3 * percentile(times, 0.99))


def _load(way: Way, how: str, load: Load, tokens: int) -> tuple[dict[str, float], float]:
    """What the client counted, and the CPU seconds of the way meanwhile."""
    before = way.cpu_s()
    # An answer of REST has a connection to itself.
    takes_turns = way.door in {"completions", "chat"}
    connections, streams = load.connections, load.streams
    if takes_turns:
        connections, streams = connections * streams, 1
    counted = _client(
        way,
        *(how, "--connections", str(connections), "--streams", str(streams)),
        *("--tokens", str(tokens), "--seconds", str(load.seconds)),
    )
    return counted, way.cpu_s() - before


def _command(way: Way, how: str, *flags: str) -> list[str]:
    program = [sys.executable, "-m", "loadtest.clients"]
    return [*program, how, way.address, "--door", way.door, *flags]


def _client(way: Way, how: str, *flags: str) -> dict[str, Any]:
    command = _command(way, how, *flags)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{way.name}: the client said: {done.stderr.decode()[-500:]}")
    return dict(json.loads(done.stdout))


def hold(way: Way, idle: Idle) -> Held:
    """What open streams or connections cost, over none, and how many of the connections are lost."""
    before = way.rss_bytes()
    flags = ("--connections", str(idle.connections), "--streams", str(idle.streams))
    with subprocess.Popen(
        _command(way, "idle", *flags), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as client:
        assert client.stdout is not None  # noqa: S101
        opened = json.loads(client.stdout.readline() or b'{"opened": 0}')["opened"]
        if not opened:
            raise RuntimeError(f"{way.name}: its client could not open {idle}")
        time.sleep(idle.seconds)  # noqa: TID251 - whether they last is what is asked
        used = way.rss_bytes() - before
        told, _ = client.communicate(b"\n")
    lost = json.loads(told)["lost"]
    return Held(opened=opened, bytes_each=used / opened, lost=lost)
