"""`python -m loadtest.router.upstream DIR`: a worker that has every token ready and sends as fast as it is let.

Registered in the directory DIR. It answers Generate with `Started` and `stop.max_tokens` messages of one token each,
one frame each, by prompt (of a chat, by its first message):

    FLOOD   as fast as windows and sockets let it
    STEPS   one token to each stream every `STEP_S`, as an engine does
    HOLD    one token, and then nothing

Whatever else is called gets a load report now and then, which is what `WatchLoad` wants; empty requests are refused.
"""

from __future__ import annotations

import asyncio
import base64
import os
import struct
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from common.clock import SystemClock
from common.discovery.api import Instance
from common.discovery.directory import DirectoryRegistrar
from common.rpc.metadata import FINISHED_KEY
from lepton.v1 import inference_pb2, types_pb2, worker_pb2
from loadtest.clients import http2
from loadtest.clients.words import HOLD, MARK, MODEL, STEPS, WORD

__all__ = ["STARTED", "STEP_S", "TOKEN", "TOKENS_MAX", "main", "serve", "token"]

STEP_S: Final = 0.01
_MARK: Final = MARK.encode()
"""Tells a Generate from other calls without reading headers, which would take a decoder."""
TOKENS_MAX: Final = 0x4000
"""Messages of one stream: as many as have a `seq` of two bytes."""


def token(seq: int) -> bytes:
    """One token as a worker sends it, but that every `seq` takes two bytes (protobuf reads 80 00 as 0), so that all
    messages have one length, and windows hold so many of them.
    """
    delta = inference_pb2.Delta(text=WORD.decode(), token_ids=[20_000])
    return _message(seq, inference_pb2.Event(delta=delta))


def _message(seq: int, what: inference_pb2.Event) -> bytes:
    event = bytes((0x08, seq & 0x7F | 0x80, seq >> 7)) + what.SerializeToString()
    return bytes((0x0A, len(event))) + event


TOKEN: Final = token(1)
STARTED: Final = _message(
    0, inference_pb2.Event(started=inference_pb2.Started(model=MODEL, worker_id="bench:"))
)
"""What comes before the tokens; as long as one of them."""
assert len(STARTED) == len(TOKEN)  # noqa: S101

_BURST: Final = 64
"""Messages of one stream before the next stream has its turn."""
_STEPS_PER_REPORT: Final = 5
_MESSAGE: Final = http2.message(TOKEN)
_MESSAGES: Final = [
    http2.message(one) for one in (STARTED, *(token(seq) for seq in range(1, TOKENS_MAX)))
]
_INITIAL_WINDOW_SIZE: Final = 4
_ANSWER: Final = b"\x88" + http2.header_block([(b"content-type", b"application/grpc")])
_REFUSAL: Final = _ANSWER + http2.header_block([(b"grpc-status", b"12")])


@dataclass(slots=True)
class _Stream:
    window: int
    request: bytes = b""
    left: int = 0
    sent: int = 0
    head: bytes = b""
    """Of each frame."""
    end: bytes = b""
    allowed: int = 0
    """Messages that may be sent now, beside what windows allow; STEPS adds one a step."""


@final
class _Connection(http2.Http2):
    def __init__(self, open_connections: set[_Connection]) -> None:
        super().__init__(skip=len(http2.PREFACE))
        self._open_connections = open_connections
        self._streams: dict[int, _Stream] = {}
        self._ready: deque[int] = deque()
        self._window = http2.WINDOW_DEFAULT
        self._initial = http2.WINDOW_DEFAULT
        self._paused = False
        self._watching: set[int] = set()
        self._stepping: set[int] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._open_connections.add(self)
        self.transport.write(http2.settings() + http2.window_update(0, http2.WINDOW_MAX - 65_535))

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_connections.discard(self)
        self._streams.clear()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.on_read()

    def on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == http2.HEADERS:
            self._streams[stream] = _Stream(self._initial)
        elif kind == http2.DATA and stream in self._streams:
            self._streams[stream].request += payload
            if flags & http2.END_STREAM:
                self._answer(stream)
        elif kind == http2.WINDOW_UPDATE:
            self._widen(stream, *struct.unpack("!L", payload))
        elif kind == http2.RST_STREAM:
            self._streams.pop(stream, None)
            self._watching.discard(stream)
        elif kind == http2.SETTINGS:
            for key, value in struct.iter_unpack("!HL", payload):
                if key == _INITIAL_WINDOW_SIZE:
                    for one in self._streams.values():
                        one.window += value - self._initial
                    self._initial = value

    def on_read(self) -> None:
        """Sends round and round what the windows allow."""
        blocked: list[int] = []
        while self._ready and not self._paused and not self.transport.is_closing():
            number = self._ready.popleft()
            stream = self._streams.get(number)
            if stream is None:
                continue
            room = min(self._window, stream.window) // len(_MESSAGE)
            num = min(_BURST, stream.allowed, room)
            if not num:
                blocked.append(number)
                if self._window < len(_MESSAGE):
                    break
                continue
            first = stream.sent
            stream.sent += num
            stream.left -= num
            stream.allowed -= num
            stream.window -= num * len(_MESSAGE)
            self._window -= num * len(_MESSAGE)
            self.transport.write(stream.head + stream.head.join(_MESSAGES[first : stream.sent]))
            if stream.allowed:
                self._ready.append(number)
            elif not stream.left and stream.end:
                self.transport.write(stream.end)
                del self._streams[number]
        self._ready.extend(blocked)

    def step(self) -> None:
        """One more token for each stream of STEPS."""
        for number in self._stepping & self._streams.keys():
            stream = self._streams[number]
            if stream.allowed < stream.left:
                stream.allowed += 1
                self._ready.append(number)
        self._stepping &= self._streams.keys()
        self.on_read()

    def report(self) -> None:
        """Tells every watcher the load, if there is room for it now; the next report will come."""
        load = worker_pb2.WatchLoadResponse(
            state=worker_pb2.WORKER_STATE_SERVING,
            step=1,
            running=1,  # streams that hold would be given up by a router who hears that nothing runs
            rows_max=100_000,
            incarnation=INCARNATION,
        ).SerializeToString()
        report = http2.message(load)
        for number in self._watching & self._streams.keys():
            stream = self._streams[number]
            if len(report) <= min(self._window, stream.window):
                stream.window -= len(report)
                self._window -= len(report)
                self.transport.write(http2.frame(http2.DATA, 0, number, report))

    def _widen(self, number: int, more: int) -> None:
        if not number:
            self._window += more
        elif stream := self._streams.get(number):
            stream.window += more

    def _answer(self, number: int) -> None:
        stream = self._streams[number]
        payload = stream.request[5:]
        head = http2.frame(http2.HEADERS, 4, number, _ANSWER)
        if _MARK in payload:
            request = inference_pb2.GenerateRequest.FromString(payload)
            prompt = request.text or request.chat.messages[0].content
            hold = prompt == HOLD
            tokens = 1 if hold else min(request.stop.max_tokens, TOKENS_MAX - 1)
            stream.left = 1 + tokens
            stream.head = http2.frame(http2.DATA, 0, number, _MESSAGE)[: -len(_MESSAGE)]
            if not hold:
                trailers = _trailers(tokens)
                stream.end = http2.frame(http2.HEADERS, 5, number, trailers)
            self.transport.write(head)
            if prompt == STEPS:
                stream.allowed = 1
                self._stepping.add(number)
                self._ready.append(number)
            else:
                stream.allowed = stream.left
                self._ready.append(number)
        elif payload:
            self.transport.write(head)
            self._watching.add(number)
            self.report()
        else:
            self.transport.write(http2.frame(http2.HEADERS, 5, number, _REFUSAL))


INCARNATION: Final = f"bench-{os.getpid()}"


def _trailers(tokens: int) -> bytes:
    usage = types_pb2.Usage(prompt_tokens=1, completion_tokens=tokens)
    finished = inference_pb2.Finished(usage=usage).SerializeToString()
    return http2.header_block(
        [
            (b"grpc-status", b"0"),
            (FINISHED_KEY.encode(), base64.b64encode(finished).rstrip(b"=")),
        ]
    )


async def serve(folder: Path, tell: Callable[[str], None]) -> None:
    """Until cancelled. Calls `tell` with the address when it is registered in `folder`."""
    clock = SystemClock()
    connections: set[_Connection] = set()
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(connections), "127.0.0.1", 0, backlog=4096
    )
    address = "{}:{}".format(*server.sockets[0].getsockname())
    registration = await DirectoryRegistrar(folder, clock, poll_s=1.0).register(
        Instance(
            id="bench",
            incarnation=INCARNATION,
            address=address,
            model=MODEL,
            revision="0123456789abcdef",
            tasks=("generate",),
            context_length=1 << 20,
            vocab_size=32_000,
            rows_max=100_000,
            fingerprint="bench",
            version="0",
        )
    )
    tell(address)
    began, steps = clock.now(), 0
    try:
        while True:
            steps += 1
            await clock.sleep(began + steps * STEP_S - clock.now())
            for connection in connections:
                connection.step()
                if steps % _STEPS_PER_REPORT == 0:
                    connection.report()
    finally:
        await registration.close()
        server.close()
        for connection in tuple(connections):
            connection.transport.abort()


def main() -> None:
    """Serves until it is ended."""
    asyncio.run(serve(Path(sys.argv[1]), lambda address: print(address, flush=True)))


if __name__ == "__main__":
    main()
