"""The calls that outlive their connections: who they are, how long they live, how much they hold.

    start ──> running ──────────────> ended ─────────────────> forgotten, ring cleared
                │ ▲                     │ ▲
     last       ▼ │ a listener          ▼ │
     listener  lingers, `linger_s`     kept, `keep_s`
     leaves     └──> aborted, forgotten └──> forgotten

A call that nobody could come back to (it has no key, and nobody has read its first events, which bring the token) does
not linger.

Everything is bounded: calls by number, rings by bytes for each and for all. When room is short, ended calls to which
nobody listens go first, the oldest of them first; then a call loses the oldest messages of its own ring.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, final

from common.clock import Clock
from common.errors import Cancelled, Internal, LeptonError, Overloaded, Reason, Unavailable
from common.logs import get_logger
from worker.transport.in_flight import InFlight
from worker.transport.replay_ring import ReplayBudget, ReplayRing
from worker.transport.running_call import CallKey, RunningCall

__all__ = ["Append", "ReplayLimits", "ResumableCalls"]

log = get_logger(__name__)


class Append(Protocol):
    """Keeps a message and hands it to the listeners."""

    def __call__(self, message: bytes, *, next_seq: int) -> None: ...


Generate = Callable[[Append], Awaitable[bytes]]
"""Appends its messages and returns the serialised `Finished`. Raises `LeptonError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayLimits:
    """How much is kept."""

    calls_max: int
    """Calls at once, running and ended."""
    bytes_max: int
    """Of one call."""
    bytes_total_max: int
    """Of all calls."""


@final
class ResumableCalls:
    """Belongs to one event loop. Use as `async with`: leaving it ends every call with `Unavailable(DRAINING)`."""

    def __init__(self, limits: ReplayLimits, in_flight: InFlight, clock: Clock) -> None:
        self._limits = limits
        self._in_flight = in_flight
        self._clock = clock
        self._budget = ReplayBudget()
        self._calls: dict[bytes, _Held] = {}
        self._by_key: dict[CallKey, _Held] = {}
        self._idle: dict[bytes, _Held] = {}
        """Ended, without listeners, the one that has been so for longest first: what goes when room is short."""
        self._tasks = asyncio.TaskGroup()

    def __repr__(self) -> str:
        return f"ResumableCalls({len(self._calls)}, {self._budget.num_bytes} bytes)"

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for held in list(self._calls.values()):
            self._forget(held, Unavailable("this worker is going away", reason=Reason.DRAINING))
        # Without the error of the block: it is not of our tasks, and need not come out as a group.
        await self._tasks.__aexit__(None, None, None)

    @property
    def num_calls(self) -> int:
        """Running and ended ones that are kept."""
        return len(self._calls)

    @property
    def num_bytes(self) -> int:
        """What all rings hold."""
        return self._budget.num_bytes

    def find(self, call_id: bytes, caller: str) -> RunningCall | None:
        """The call with that id, if it is this caller's."""
        held = self._calls.get(call_id)
        return held.call if held is not None and held.call.caller == caller else None

    def find_by_key(self, key: CallKey) -> RunningCall | None:
        """The call that whoever repeats `key` joins."""
        held = self._by_key.get(key)
        return held.call if held is not None else None

    def new_ring(self, *, first_seq: int) -> ReplayRing:
        """For a call that is about to start."""
        return ReplayRing(self._budget, bytes_max=self._limits.bytes_max, first_seq=first_seq)

    def start(self, call: RunningCall, generate: Generate, *, must: bool = False) -> None:
        """Runs `generate` in a task of its own. Whoever wants to listen does so before giving the event loop away.

        A key moves to the new call. Raises `Overloaded(QUEUE_FULL)` when too many calls are kept that still run, unless
        it `must` run: the cluster has accepted it before.
        """
        self._make_room(must=must)
        held = _Held(call)
        self._calls[call.call_id] = held
        if call.key is not None:
            self._by_key[call.key] = held
        held.task = self._tasks.create_task(self._drive(held, generate))
        held.task.add_done_callback(lambda _: self._on_end(held))
        self._rest(held)

    @contextmanager
    def listening(self, call: RunningCall) -> Iterator[None]:
        """Counts a listener; when the last one leaves, the call lingers or is kept, and then forgotten."""
        call.num_listeners += 1
        if (held := self._calls.get(call.call_id)) is not None:
            self._wake(held)
        try:
            yield
        finally:
            call.num_listeners -= 1
            if (held := self._calls.get(call.call_id)) is not None:
                self._rest(held)
            elif not call.num_listeners:
                call.ring.clear()

    def abort(self, call: RunningCall) -> None:
        """Ends the compute within a step and forgets the call; listeners get `Cancelled(ABORTED)`."""
        held = self._calls.get(call.call_id)
        if held is not None:
            self._forget(held, Cancelled("the call was aborted", reason=Reason.ABORTED))

    def let_go(self, call: RunningCall) -> None:
        """Nobody will come back to a call that runs: it is aborted, as soon as its last listener has left."""
        if call.has_ended:
            return
        call.linger_s = 0.0
        if not call.num_listeners:
            self.abort(call)

    # --- inside -------------------------------------------------------------------------------

    async def _drive(self, held: _Held, generate: Generate) -> None:
        call = held.call

        def append(message: bytes, *, next_seq: int) -> None:
            call.ring.append(message, next_seq=next_seq)
            if self._budget.num_bytes > self._limits.bytes_total_max:
                self._shrink(call)
            call.tell()

        try:
            with self._in_flight.generation():
                call.end(await generate(append))
        except LeptonError as error:
            call.end(error)
        except Exception:
            log.exception("resumable.call_failed", call=call.call_id.hex())
            call.end(Internal("something broke on our side; the log of the worker says what"))

    def _on_end(self, held: _Held) -> None:
        """The task is over, whatever way; one that was cancelled may not even have begun."""
        call = held.call
        call.end(Cancelled("the call was given up", reason=Reason.CLIENT_GONE))
        if call.has_failed:
            self._drop_key(held)
        if call.call_id not in self._calls:
            if not call.num_listeners:
                call.ring.clear()  # forgotten while it computed its last step
        elif call.has_failed and not call.ring.num_bytes:
            self._forget(held, None)  # nobody has a token yet
        else:
            self._rest(held)

    def _rest(self, held: _Held) -> None:
        """Without listeners a call lives on for a while."""
        call = held.call
        self._wake(held)
        if call.num_listeners:
            return
        if call.has_ended:
            self._idle[call.call_id] = held
        held.timer = self._tasks.create_task(self._forget_after(held, call.rest_s))

    def _wake(self, held: _Held) -> None:
        self._idle.pop(held.call.call_id, None)
        if held.timer is not None:
            held.timer.cancel()
            held.timer = None

    async def _forget_after(self, held: _Held, seconds: float) -> None:
        await self._clock.sleep(seconds)
        held.timer = None
        self._forget(held, Cancelled("nobody came back to the call", reason=Reason.CLIENT_GONE))

    def _forget(self, held: _Held, why: LeptonError | None) -> None:
        """Ends what still runs, with `why`, and gives everything back."""
        call = held.call
        if why is not None:
            call.end(why)
        self._wake(held)
        del self._calls[call.call_id]
        self._drop_key(held)
        held.cancel()
        if not call.num_listeners:
            call.ring.clear()

    def _drop_key(self, held: _Held) -> None:
        key = held.call.key
        if key is not None and self._by_key.get(key) is held:
            del self._by_key[key]

    def _make_room(self, *, must: bool) -> None:
        if len(self._calls) < self._limits.calls_max:
            return
        if self._idle:
            self._forget(self._oldest_idle(), None)
        elif not must:
            raise Overloaded(
                f"{len(self._calls)} resumable calls run, the most this worker takes "
                "(setting worker.resumable_calls_max)",
                retry_after_s=1.0,
            )

    def _shrink(self, growing: RunningCall) -> None:
        while self._budget.num_bytes > self._limits.bytes_total_max:
            if self._idle:
                self._forget(self._oldest_idle(), None)
            elif not growing.ring.drop_oldest():
                return

    def _oldest_idle(self) -> _Held:
        return next(iter(self._idle.values()))


@final
class _Held:
    """A call and the tasks that belong to it."""

    __slots__ = ("call", "task", "timer")

    def __init__(self, call: RunningCall) -> None:
        self.call = call
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()
