"""The ways to ask: as much as comes, and one answer after the other."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from loadtest.clients.connection import Connect, Connection, Hooks, fail
from loadtest.clients.words import FLOOD, HOLD

__all__ = ["Held", "ask_first", "ask_rate", "hold"]

_START_S_MAX: Final = 60.0
_OPENING: Final = 100
"""Connections that are opened at once."""


async def ask_rate(
    connect: Connect,
    address: str,
    prompt: str,
    *,
    connections: int,
    streams: int,
    tokens: int,
    seconds: float,
) -> dict[str, float]:
    """As many streams at a time on each connection, for so long; a stream that ends is followed by another."""

    def on_end(connection: Connection, got: int) -> None:
        if got != tokens:
            fail(f"a stream ended after {got} of {tokens} tokens")
        connection.ask(prompt, tokens)

    hooks = Hooks(on_end=on_end, on_lost=_lost)
    every = [await connect(address, hooks) for _ in range(connections)]
    began = time.perf_counter()
    for connection in every:
        for _ in range(streams):
            connection.ask(prompt, tokens)
    await asyncio.sleep(seconds)  # noqa: TID251 - a measurement takes its time
    took = time.perf_counter() - began
    result = {
        "seconds": took,
        "tokens": sum(one.tokens for one in every),
        "messages": sum(one.messages for one in every),
        "cpu_s": time.process_time(),
    }
    for connection in every:
        connection.close()
    return result


async def ask_first(
    connect: Connect, address: str, *, requests: int, gap_s: float
) -> dict[str, list[float]]:
    """One stream of two tokens after the other, with a pause; seconds until the first token of each."""
    first, end = asyncio.Event(), asyncio.Event()
    hooks = Hooks(on_first=first.set, on_end=lambda _, __: end.set(), on_lost=_lost)
    connection = await connect(address, hooks)
    times = []
    for _ in range(requests):
        first.clear()
        end.clear()
        began = time.perf_counter()
        connection.ask(FLOOD, 2)
        await first.wait()
        times.append(time.perf_counter() - began)
        await end.wait()
        await asyncio.sleep(gap_s)  # noqa: TID251 - low load is what is asked for
    connection.close()
    return {"first_s": times}


class Held:
    """Connections on which nothing happens, and how many of them were lost."""

    def __init__(self) -> None:
        self.every: list[Connection] = []
        self.num_first = 0
        """Streams that have begun."""
        self.num_lost = 0
        self.has_changed = asyncio.Event()

    def on_first(self) -> None:
        """A stream has begun."""
        self.num_first += 1
        self.has_changed.set()

    def on_lost(self, _: Connection) -> None:
        """A connection is gone, or its stream."""
        self.num_lost += 1
        self.has_changed.set()


async def hold(connect: Connect, address: str, *, connections: int, streams: int) -> Held:
    """Opens connections, on each of which so many streams get one token and then nothing. What comes back goes on
    counting.
    """
    held = Held()
    hooks = Hooks(
        on_first=held.on_first,
        on_end=lambda connection, _: held.on_lost(connection),
        on_lost=held.on_lost,
    )
    async with asyncio.timeout(_START_S_MAX):
        while len(held.every) < connections:
            num = min(_OPENING, connections - len(held.every))
            opened = await asyncio.gather(*(connect(address, hooks) for _ in range(num)))
            held.every += opened
            for connection in opened:
                for _ in range(streams):
                    connection.ask(HOLD, 1)
            # All at once would be a flood, of which a server refuses a part.
            while held.num_first < len(held.every) * streams and not held.num_lost:
                held.has_changed.clear()
                await held.has_changed.wait()
    return held


def _lost(connection: Connection) -> None:
    fail(f"a connection was closed after {connection.tokens} tokens")
