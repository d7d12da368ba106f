"""Between a worker that produces and a client that reads: what to do when the client is the slower one.

While the client keeps up, each message goes out as it came. While one is still on its way into the client's
transport, those that follow wait and leave together as one: two `GenerateResponse` messages merge by concatenation, so
nothing is parsed. What waits is bounded, per stream and for all streams together; beyond that `write` waits, and with
it the worker (HTTP/2's back-pressure). A client that takes nothing at all for too long is cut off.

One task per stream sends, none per message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, final

from common.clock import Clock
from common.errors import Cancelled, LeptonError, Reason

__all__ = ["Outlet", "OutletLimits", "Outlets"]

Send = Callable[[bytes], Awaitable[None]]
"""Sends one message; returns when the client's transport took it."""

_LOOKS_PER_LIMIT: Final = 10
"""How often, within the time that a reader may take nothing, it is looked whether it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutletLimits:
    """Bounds of what waits for clients."""

    stream_bytes_max: int
    """Waiting bytes of one stream; a larger single message may wait alone."""
    total_bytes_max: int
    """Waiting bytes of all streams; beyond it one message may wait per stream."""
    silence_s_max: float
    """A client that takes nothing for longer is cut off."""


@final
class Outlets:
    """All outlets of a process, on one event loop. `run` must run as long as they are used."""

    def __init__(
        self, limits: OutletLimits, clock: Clock, *, on_cut: Callable[[], None] = lambda: None
    ) -> None:
        self.limits = limits
        self.clock = clock
        self.waiting_bytes = 0
        """Of all streams, now."""
        self.idle = asyncio.Event()
        """Set while no outlet is open."""
        self.idle.set()
        self._open: set[Outlet] = set()
        self._on_cut = on_cut

    def __repr__(self) -> str:
        return f"Outlets({len(self._open)} open, {self.waiting_bytes} bytes waiting)"

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def open(self, send: Send) -> Outlet:
        """An outlet for one stream; to be entered with `async with`."""
        return Outlet(self, send)

    async def run(self) -> None:
        """Cuts off those who take nothing. Cancellation: safe."""
        while True:
            await self.clock.sleep(self.limits.silence_s_max / _LOOKS_PER_LIMIT)
            latest = self.clock.now() - self.limits.silence_s_max
            for outlet in [one for one in self._open if one.is_sending_since(latest)]:
                self._on_cut()
                outlet.fail(
                    Cancelled(
                        f"the client took nothing for {self.limits.silence_s_max:g} s "
                        "(setting router.slow_reader_s)",
                        reason=Reason.SLOW_READER,
                    )
                )

    def add(self, outlet: Outlet) -> None:
        """From now on it is looked after."""
        self._open.add(outlet)
        self.idle.clear()

    def remove(self, outlet: Outlet) -> None:
        """It has ended."""
        self._open.discard(outlet)
        if not self._open:
            self.idle.set()


@final
class Outlet:
    """The way of one stream to its client.

    Resources: a task, which ends with the block. Errors: `write` raises `Cancelled(SLOW_READER)`, or what `send`
    raised for an earlier message. A block that ends well, or with a `LeptonError`, first sends what waits; any other
    end (the client has left) drops it.
    """

    __slots__ = (
        "_all",
        "_failure",
        "_idle",
        "_room",
        "_send",
        "_sending_since",
        "_task",
        "_waiting",
        "_waiting_bytes",
    )

    def __init__(self, outlets: Outlets, send: Send) -> None:
        self._all = outlets
        self._send = send
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._sending_since: float | None = None
        self._idle: asyncio.Future[None] | None = None  # the task waits for something to send
        self._room: asyncio.Future[None] | None = None  # the writer waits for the task
        self._failure: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = "idle" if self._sending_since is None else "sending"
        return f"Outlet({state}, {self._waiting_bytes} bytes waiting)"

    async def __aenter__(self) -> Outlet:
        self._all.add(self)
        self._task = asyncio.get_running_loop().create_task(self._run(), name="outlet")
        return self

    async def __aexit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                await self._flush()
            elif isinstance(error, LeptonError) and self._failure is None:
                # What the worker sent before it failed still belongs to the client; the failure itself is told anyway.
                await self._flush(raises=False)
        finally:
            self._all.remove(self)
            self._all.waiting_bytes -= self._waiting_bytes
            self._waiting_bytes = 0
            self._waiting.clear()
            if self._task is not None:
                self._task.cancel()

    async def write(self, message: bytes) -> None:
        """Takes a message for the client; waits while too much is waiting already."""
        size = len(message)
        while self._failure is None and self._waiting and not self._has_room(size):
            await self._progress()
        if self._failure is not None:
            raise self._failure
        self._waiting.append(message)
        self._waiting_bytes += size
        self._all.waiting_bytes += size
        if self._idle is not None:
            self._idle.set_result(None)
            self._idle = None

    def is_sending_since(self, latest: float) -> bool:
        """Whether one message has been on its way since `latest` or longer."""
        return (
            self._failure is None
            and self._sending_since is not None
            and self._sending_since <= latest
        )

    def fail(self, error: BaseException) -> None:
        """Nothing more is sent; who writes, or waits to write, gets `error`."""
        self._failure = error
        self._tell()

    # --- inside -------------------------------------------------------------------------------

    def _has_room(self, size: int) -> bool:
        limits = self._all.limits
        return (
            self._waiting_bytes + size <= limits.stream_bytes_max
            and self._all.waiting_bytes + size <= limits.total_bytes_max
        )

    async def _progress(self) -> None:
        """Returns when a message has left or the stream has failed."""
        self._room = asyncio.get_running_loop().create_future()
        await self._room

    def _tell(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    async def _flush(self, *, raises: bool = True) -> None:
        while self._failure is None and (self._waiting or self._sending_since is not None):
            await self._progress()
        if self._failure is not None and raises:
            raise self._failure

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        clock = self._all.clock
        try:
            while True:
                if not self._waiting:
                    self._idle = loop.create_future()
                    await self._idle
                messages, self._waiting = self._waiting, []
                self._all.waiting_bytes -= self._waiting_bytes
                self._waiting_bytes = 0
                self._sending_since = clock.now()
                await self._send(messages[0] if len(messages) == 1 else b"".join(messages))
                self._sending_since = None
                if self._room is not None:
                    self._tell()
        except Exception as error:
            self.fail(error)
