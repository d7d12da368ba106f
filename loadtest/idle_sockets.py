"""`python -m loadtest.idle_sockets`: what idle WebSockets cost one router process, and whether it keeps them all.

Opens them, waits through many pings, and closes them. Exit code 1 when one was closed by the other side. Linux;
`ulimit -n` must allow some more files than there are sockets.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console
from websockets.asyncio.client import connect

from agent.ready import parse_ready
from chaos.vitals import held_by
from common.clock import SystemClock

__all__ = ["main"]

ROOT: Final = Path(__file__).resolve().parents[1]
_PINGS: Final = 8
"""How often each socket is pinged while it is idle."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.idle_sockets", description=__doc__)
    parser.add_argument("--sockets", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of idling")
    wish = parser.parse_args(arguments)
    kib, dropped = asyncio.run(_measure(wish.sockets, wish.seconds))
    Console(highlight=False).print(
        f"{wish.sockets} idle WebSockets for {wish.seconds:g} s, pinged {_PINGS} times each: {kib:.0f} KiB of "
        f"memory for each, {dropped} dropped",
        soft_wrap=True,
    )
    return 1 if dropped else 0


async def _measure(num: int, seconds: float) -> tuple[float, int]:
    """(KiB of memory for each socket, how many were closed)."""
    async with _router(ping_s=seconds / _PINGS) as (pid, address), AsyncExitStack() as stack:
        for _ in range(8):  # whatever the first ones make once and for all
            async with connect(f"ws://{address}/v1/ws"):
                pass
        before = held_by(pid).rss
        sockets = [
            await stack.enter_async_context(
                connect(f"ws://{address}/v1/ws", ping_interval=None, close_timeout=0.1)
            )
            for _ in range(num)
        ]
        await SystemClock().sleep(seconds)
        dropped = sum(socket.close_code is not None for socket in sockets)
        return (held_by(pid).rss - before) / 1024 / num, dropped


@asynccontextmanager
async def _router(*, ping_s: float) -> AsyncIterator[tuple[int, str]]:
    """Process id and HTTP address of a router without workers."""
    with TemporaryDirectory() as folder:
        flags = {
            "port": "0",
            "metrics-port": "0",
            "gateway.port": "0",
            "gateway.socket-ping-s": str(ping_s),
            "gateway.sockets-max": "1000000",
            "gateway.connections-max": "1000000",
            "discovery.registry-dir": folder,
            "telemetry.log-format": "json",
            "drain-delay-s": "0",
        }
        command = [sys.executable, "-m", "router", *(f"--{k}={v}" for k, v in flags.items())]
        env = {key: value for key, value in os.environ.items() if not key.startswith("LEPTON_")}
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env=env, stdout=PIPE, stderr=STDOUT
        )
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            async for line in process.stdout:
                if (ready := parse_ready(line.decode())) is not None:
                    break
            else:
                raise SystemExit("the router did not start")
            reading = asyncio.ensure_future(process.stdout.read())
            yield process.pid, ready["http_address"]
        finally:
            process.kill()
            await process.wait()
        await reading


if __name__ == "__main__":
    raise SystemExit(main())
