"""`python -m loadtest.clients flood|steps|first|idle ADDRESS …`: asks one door in one of four ways, prints JSON lines.

flood   as many streams at a time as told, for some seconds, each as fast as it comes: tokens, messages
steps   the same with one token per stream and step, as an engine sends them
first   one stream after the other: seconds until the first token of each
idle    opens streams that get one token and then nothing (`--streams 0`: connections that ask nothing); says how many,
        and when a line comes, or its input ends, how many connections were lost
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Final

import uvloop

import loadtest.clients.grpc
import loadtest.clients.websocket
from loadtest.clients.ask import ask_first, ask_rate, hold
from loadtest.clients.connection import Connect
from loadtest.clients.event_stream import connect_chat, connect_completions
from loadtest.clients.words import FLOOD, STEPS

__all__ = ["DOORS", "main"]

DOORS: Final[Mapping[str, Connect]] = {
    "grpc": loadtest.clients.grpc.connect,
    "completions": connect_completions,
    "chat": connect_chat,
    "websocket": loadtest.clients.websocket.connect,
}
_GAP_S: Final = 0.005


def main() -> None:
    """Asks and prints."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.clients", description=__doc__)
    add = parser.add_argument
    add("way", choices=("flood", "steps", "first", "idle"))
    add("address")
    add("--door", choices=DOORS, default="grpc")
    add("--connections", type=int, default=16)
    add("--streams", type=int, default=2, help="on each connection")
    add("--tokens", type=int, default=500, help="of each stream")
    add("--seconds", type=float, default=3.0)
    add("--requests", type=int, default=100)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_ask(parser.parse_args()))


async def _ask(wish: argparse.Namespace) -> None:
    connect = DOORS[wish.door]
    if wish.way == "idle":
        held = await hold(connect, wish.address, connections=wish.connections, streams=wish.streams)
        _tell({"opened": len(held.every) * max(1, wish.streams)})
        await asyncio.to_thread(sys.stdin.readline)
        _tell({"lost": held.num_lost})
        for connection in held.every:
            connection.close()
    elif wish.way == "first":
        _tell(await ask_first(connect, wish.address, requests=wish.requests, gap_s=_GAP_S))
    else:
        _tell(
            await ask_rate(
                connect,
                wish.address,
                STEPS if wish.way == "steps" else FLOOD,
                connections=wish.connections,
                streams=wish.streams,
                tokens=wish.tokens,
                seconds=wish.seconds,
            )
        )


def _tell(line: object) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
