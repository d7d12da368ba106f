"""`python -m loadtest.router.client flood|steps|first|idle …`: asks in one of four ways, prints one JSON line.

flood   as many streams at a time as told, for some seconds, each as fast as it comes: tokens, messages
steps   the same with one token per stream and step, as an engine sends them
first   one stream after the other: seconds until the first message of each
idle    opens streams that get one message and then nothing; ends when its input ends
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Final, final

from lepton.v1 import inference_pb2, types_pb2
from loadtest.router import http2
from loadtest.router.upstream import FLOOD, HOLD, MODEL, STEPS, TOKEN

__all__ = ["ask_first", "ask_rate", "count_tokens", "main"]

_HEADERS: Final = b"\x83\x86" + http2.header_block(
    [
        (b":path", b"/lepton.v1.InferenceService/Generate"),
        (b":authority", b"bench"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]
)
_ACK_BYTES: Final = 1 << 20
_START_S_MAX: Final = 60.0


@final
class _Connection(http2.Http2):
    """`on_first` is called at the first message of a stream, `on_end` with its tokens at its end."""

    def __init__(
        self, on_first: Callable[[], None], on_end: Callable[[_Connection, int], None]
    ) -> None:
        super().__init__()
        self._on_first = on_first
        self._on_end = on_end
        self._streams: dict[int, tuple[int, bytes]] = {}  # tokens so far, begin of a message
        self._next = 1
        self._unacknowledged = 0
        self.tokens = 0
        self.messages = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        window = http2.window_update(0, http2.WINDOW_MAX - http2.WINDOW_DEFAULT)
        self.transport.write(http2.PREFACE + http2.settings((4, http2.WINDOW_MAX)) + window)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._streams:
            sys.exit(f"a connection with {len(self._streams)} streams was closed")

    def ask(self, request: bytes) -> None:
        """Opens a stream."""
        number, self._next = self._next, self._next + 2
        self._streams[number] = (0, b"")
        self.transport.write(
            http2.frame(http2.HEADERS, 4, number, _HEADERS)
            + http2.frame(http2.DATA, http2.END_STREAM, number, http2.message(request))
        )

    def close(self) -> None:
        """Breaks off what runs."""
        self._streams.clear()
        self.transport.abort()

    def on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == http2.DATA:
            self._count(stream, payload)
        elif kind == http2.RST_STREAM:
            sys.exit(f"a stream was reset after {self._streams[stream][0]} tokens")
        if flags & http2.END_STREAM and kind in (http2.DATA, http2.HEADERS):
            tokens, _ = self._streams.pop(stream)
            if not tokens:
                sys.exit(f"a stream ended without a token: {payload!r}")
            self._on_end(self, tokens)

    def on_read(self) -> None:
        if self._unacknowledged > _ACK_BYTES:
            self.transport.write(http2.window_update(0, self._unacknowledged))
            self._unacknowledged = 0

    def _count(self, stream: int, payload: bytes) -> None:
        self._unacknowledged += len(payload)
        before, rest = self._streams[stream]
        tokens, messages, rest = count_tokens(rest + payload)
        self.tokens += tokens
        self.messages += messages
        self._streams[stream] = (before + tokens, rest)
        if tokens and not before:
            self._on_first()


def count_tokens(data: bytes) -> tuple[int, int, bytes]:
    """Tokens, messages, and the begin of the next message. Messages may have been merged on their way."""
    tokens, messages, at = 0, 0, 0
    while len(data) - at >= 5:
        end = at + 5 + int.from_bytes(data[at + 1 : at + 5])
        if end > len(data):
            break
        tokens += (end - at - 5) // len(TOKEN)
        messages += 1
        at = end
    return tokens, messages, data[at:]


def _request(tokens: int, prompt: str = FLOOD) -> bytes:
    return inference_pb2.GenerateRequest(
        model=MODEL, text=prompt, stop=types_pb2.StopConditions(max_tokens=tokens)
    ).SerializeToString()


async def _connect(
    address: str, on_first: Callable[[], None], on_end: Callable[[_Connection, int], None]
) -> _Connection:
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    _, made = await loop.create_connection(lambda: _Connection(on_first, on_end), host, int(port))
    return made


async def ask_rate(
    address: str, prompt: str, *, connections: int, streams: int, tokens: int, seconds: float
) -> dict[str, float]:
    """As many streams at a time on each connection, for so long; a stream that ends is followed by another."""
    request = _request(tokens, prompt)

    def on_end(connection: _Connection, got: int) -> None:
        if got != tokens:
            sys.exit(f"a stream ended after {got} of {tokens} tokens")
        connection.ask(request)

    every = [await _connect(address, lambda: None, on_end) for _ in range(connections)]
    began = time.perf_counter()
    for connection in every:
        for _ in range(streams):
            connection.ask(request)
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


async def ask_first(address: str, *, requests: int, gap_s: float) -> dict[str, list[float]]:
    """One stream after the other, with a pause; seconds until the first message of each."""
    first, end = asyncio.Event(), asyncio.Event()
    connection = await _connect(address, first.set, lambda _, __: end.set())
    times, request = [], _request(2)
    for _ in range(requests):
        first.clear()
        end.clear()
        began = time.perf_counter()
        connection.ask(request)
        await first.wait()
        times.append(time.perf_counter() - began)
        await end.wait()
        await asyncio.sleep(gap_s)  # noqa: TID251 - low load is what is asked for
    connection.close()
    return {"first_s": times}


async def _idle(address: str, *, connections: int, streams: int) -> None:
    num, every = 0, asyncio.Event()

    def on_first() -> None:
        nonlocal num
        num += 1
        if num == connections * streams:
            every.set()

    for _ in range(connections):
        connection = await _connect(address, on_first, lambda _, __: sys.exit("a stream ended"))
        for _ in range(streams):
            connection.ask(_request(1, HOLD))
    async with asyncio.timeout(_START_S_MAX):
        await every.wait()
    print(json.dumps({"streams": num}), flush=True)
    await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Asks and prints."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.router.client", description=__doc__)
    add = parser.add_argument
    add("way", choices=("flood", "steps", "first", "idle"))
    add("address")
    add("--connections", type=int, default=16)
    add("--streams", type=int, default=2, help="on each connection")
    add("--tokens", type=int, default=500, help="of each stream")
    add("--seconds", type=float, default=3.0)
    add("--requests", type=int, default=100)
    wish = parser.parse_args()
    if wish.way == "idle":
        asyncio.run(_idle(wish.address, connections=wish.connections, streams=wish.streams))
        return
    if wish.way == "first":
        result = asyncio.run(ask_first(wish.address, requests=wish.requests, gap_s=0.005))
    else:
        result = asyncio.run(
            ask_rate(
                wish.address,
                STEPS if wish.way == "steps" else FLOOD,
                connections=wish.connections,
                streams=wish.streams,
                tokens=wish.tokens,
                seconds=wish.seconds,
            )
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
