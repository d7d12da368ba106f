"""`python -m loadtest.doors.client flood|steps|first|idle …`: `loadtest.router.client`, by server-sent events.

As light as it can be, so that what is measured is the door: a socket per stream, and tokens counted in the bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Final, final

from loadtest.router.upstream import FLOOD, HOLD, MODEL, STEPS

__all__ = ["main"]

_TOKEN: Final = b'"text":" measure"'
_CHUNK: Final = b"data: {"
_END: Final = b"data: [DONE]"
_START_S_MAX: Final = 60.0


@final
class _Stream(asyncio.Protocol):
    """One connection, one answer after the other."""

    def __init__(self, on_first: Callable[[], None], on_end: Callable[[_Stream], None]) -> None:
        self._on_first = on_first
        self._on_end = on_end
        self._tail = b""
        self._begun = False
        self.tokens = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self.transport = transport

    def ask(self, tokens: int, prompt: str) -> None:
        """Begins an answer."""
        body = json.dumps(
            {"model": MODEL, "prompt": prompt, "max_tokens": tokens, "stream": True}
        ).encode()
        head = (
            "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        self._begun = False
        self.transport.write(head.encode() + body)

    def data_received(self, data: bytes) -> None:
        data = self._tail + data
        self.tokens += data.count(_TOKEN)
        if not self._begun and _CHUNK in data:
            self._begun = True
            self._on_first()
        ended = _END in data
        # What is cut at the end of this read, and complete with the next, is counted then; never twice.
        cut = max(data.rfind(_TOKEN), data.rfind(_CHUNK), data.rfind(_END)) + 1
        self._tail = b"" if ended else data[max(cut, len(data) - len(_TOKEN) + 1) :]
        if ended:
            self._on_end(self)
        elif b"HTTP/1.1 4" in data or b"HTTP/1.1 5" in data:
            sys.exit(f"refused: {data[-300:]!r}")

    def connection_lost(self, exc: Exception | None) -> None:
        if self.transport is not None and not self.transport.is_closing():
            sys.exit("a stream was closed")


async def _connect(
    address: str, on_first: Callable[[], None], on_end: Callable[[_Stream], None]
) -> _Stream:
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    _, made = await loop.create_connection(lambda: _Stream(on_first, on_end), host, int(port))
    return made


async def _rate(
    address: str, prompt: str, *, streams: int, tokens: int, seconds: float
) -> dict[str, float]:
    every = [
        await _connect(address, lambda: None, lambda own: own.ask(tokens, prompt))
        for _ in range(streams)
    ]
    began = time.perf_counter()
    for one in every:
        one.ask(tokens, prompt)
    await asyncio.sleep(seconds)  # noqa: TID251 - a measurement takes its time
    took = time.perf_counter() - began
    got = sum(one.tokens for one in every)
    for one in every:
        one.transport.abort()
    return {"seconds": took, "tokens": got, "messages": got, "cpu_s": time.process_time()}


async def _first(address: str, *, requests: int) -> dict[str, list[float]]:
    first, end = asyncio.Event(), asyncio.Event()
    stream = await _connect(address, first.set, lambda _: end.set())
    times = []
    for _ in range(requests):
        first.clear()
        end.clear()
        began = time.perf_counter()
        stream.ask(2, FLOOD)
        await first.wait()
        times.append(time.perf_counter() - began)
        await end.wait()
        await asyncio.sleep(0.005)  # noqa: TID251 - low load is what is asked for
    stream.transport.abort()
    return {"first_s": times}


async def _idle(address: str, *, streams: int) -> None:
    num, every = 0, asyncio.Event()

    def on_first() -> None:
        nonlocal num
        num += 1
        if num == streams:
            every.set()

    for _ in range(streams):
        one = await _connect(address, on_first, lambda _: sys.exit("a stream ended"))
        one.ask(1, HOLD)
    async with asyncio.timeout(_START_S_MAX):
        await every.wait()
    print(json.dumps({"streams": num}), flush=True)
    await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Asks and prints."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.doors.client", description=__doc__)
    add = parser.add_argument
    add("way", choices=("flood", "steps", "first", "idle"))
    add("address")
    add("--connections", type=int, default=16)
    add("--streams", type=int, default=2, help="as many times as connections")
    add("--tokens", type=int, default=500, help="of each stream")
    add("--seconds", type=float, default=3.0)
    add("--requests", type=int, default=100)
    wish = parser.parse_args()
    streams = wish.connections * wish.streams
    if wish.way == "idle":
        asyncio.run(_idle(wish.address, streams=streams))
        return
    if wish.way == "first":
        result: object = asyncio.run(_first(wish.address, requests=wish.requests))
    else:
        prompt = STEPS if wish.way == "steps" else FLOOD
        result = asyncio.run(
            _rate(wish.address, prompt, streams=streams, tokens=wish.tokens, seconds=wish.seconds)
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
