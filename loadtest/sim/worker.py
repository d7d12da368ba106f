"""A simulated worker: rows, a queue, speeds, a prefix cache, and ways to fail. No bytes of a model, but its timing.

    submit ──> waiting ──> running: prompt, then messages of a few tokens ──> end
                                └── killed, frozen, slow, failing at once

Answers are counted, not made: a message says which positions it holds, so a reader sees gaps and doubles.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, final

from common.errors import Internal, LeptonError, Overloaded, Reason, Unavailable
from loadtest.sim.trace import BLOCK_TOKENS, Ask
from worker.engine.prefix_digest import PrefixDigest

__all__ = ["Pace", "SimCall", "SimWorker", "WorkerHealth"]

_MESSAGES: Final = 4
"""Messages of an answer: enough to fail between two of them, few enough to simulate many answers."""
_WAITING_MAX: Final = 64
_DIGEST_HASHES_MAX: Final = 4096


class WorkerHealth(Enum):
    """How a worker behaves."""

    WELL = auto()
    FAILING = auto()
    """Answers everything at once, with an error."""
    FROZEN = auto()
    """Takes everything, says nothing."""
    DEAD = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a worker is and how much it holds."""

    rows_max: int = 8
    prefill_tokens_per_s: float = 4000.0
    step_s: float = 0.010
    """Of decoding alone."""
    row_s: float = 0.001
    """What each row adds."""
    cache_blocks: int = 512


@final
class SimCall:
    """One attempt at one request on one worker; implements `router.core.ports.WorkerStream`."""

    def __init__(
        self, ask: Ask, start: int, router: str, on_close: Callable[[SimCall], None]
    ) -> None:
        self.ask = ask
        self.router = router
        """Who sent it."""
        self.start = start
        """Positions below it the client has."""
        self.cached_tokens = 0
        self.next = start
        self.finished = b""
        self.was_taken = True
        self.is_closed = False
        self._on_close = on_close
        self._ready: deque[bytes | LeptonError | None] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    async def read(self) -> bytes | None:
        """See `WorkerStream`."""
        while not self._ready:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        item = self._ready.popleft()
        if isinstance(item, LeptonError):
            raise item
        if item is None:
            self.finished = b"finished"
        return item

    def push(self, item: bytes | LeptonError | None) -> None:
        """What `read` gives next: a message, an error, or the end."""
        self._ready.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def abandon(self, error: LeptonError) -> None:
        """See `WorkerStream`."""
        self._ready.clear()
        self.push(error)

    def close(self) -> None:
        """See `WorkerStream`."""
        if not self.is_closed:
            self.is_closed = True
            if self.timer is not None:
                self.timer.cancel()
            self._on_close(self)


@final
class SimWorker:
    """See the module. `on_change` is called when what a load report would say has changed."""

    def __init__(self, worker_id: str, pace: Pace, on_change: Callable[[SimWorker], None]) -> None:
        self.id = worker_id
        self.pace = pace
        self.health = WorkerHealth.WELL
        self.slow = 1.0
        self.draining = False
        self.starts = 1
        self.running: dict[SimCall, None] = {}
        self.waiting: deque[SimCall] = deque()
        self.tokens_done = 0
        """Prompt tokens computed and tokens decoded since the beginning: its share of the work."""
        self.tokens_cached = 0
        self.calls_taken = 0
        self._cache: OrderedDict[int, None] = OrderedDict()
        """Of one prompt the longest beginning is used before the shorter ones, so that it goes first."""
        self.digest = PrefixDigest(_DIGEST_HASHES_MAX)
        self._on_change = on_change

    def __repr__(self) -> str:
        return (
            f"SimWorker({self.id}, {self.health.name}, {len(self.running)} + {len(self.waiting)})"
        )

    @property
    def incarnation(self) -> str:
        return f"{self.id}.{self.starts}"

    @property
    def step_s(self) -> float:
        """Between two tokens of one of the running answers."""
        return self.slow * (self.pace.step_s + self.pace.row_s * len(self.running))

    def submit(self, ask: Ask, start: int, router: str) -> SimCall:
        """Takes a request of which the client has the positions below `start`."""
        call = SimCall(ask, start, router, self._gone)
        self.calls_taken += 1
        if self.health is WorkerHealth.DEAD:
            call.was_taken = False
            call.push(_lost())
        elif self.health is WorkerHealth.FAILING:
            call.push(Internal("the engine failed in this step", reason=Reason.ENGINE_FAILED))
        elif self.draining:
            call.push(Unavailable("draining", reason=Reason.DRAINING))
        elif len(self.waiting) >= _WAITING_MAX and not start:
            call.push(Overloaded("full", retry_after_s=1.0))
        else:
            self.waiting.append(call)
            self._fill()
        self._on_change(self)
        return call

    # --- what can happen to it ---

    def kill(self) -> None:
        """Every call breaks; what it knew is gone."""
        self.health = WorkerHealth.DEAD
        self._cache.clear()
        self.digest = PrefixDigest(_DIGEST_HASHES_MAX)
        calls = [*self.running, *self.waiting]
        self.running.clear()
        self.waiting.clear()
        for call in calls:
            if call.timer is not None:
                call.timer.cancel()
            call.push(_lost())

    def restart(self) -> None:
        """A new process under the same id."""
        self.health, self.slow, self.draining = WorkerHealth.WELL, 1.0, False
        self.starts += 1
        self._on_change(self)

    def freeze(self) -> None:
        """Nothing moves any more."""
        self.health = WorkerHealth.FROZEN
        for call in self.running:
            if call.timer is not None:
                call.timer.cancel()

    def thaw(self) -> None:
        """Moves again: its calls go on where they stood, unless they were cancelled meanwhile."""
        self.health = WorkerHealth.WELL
        for call in self.running:
            call.timer = asyncio.get_running_loop().call_later(0, self._speak, call)
        self._fill()
        self._on_change(self)

    def drain(self) -> None:
        """Takes nothing new; what runs ends as long as it may."""
        self.draining = True
        self._on_change(self)

    def hand_over(self) -> None:
        """The grace of a drain is over: what still runs goes elsewhere."""
        calls = [*self.running, *self.waiting]
        self.running.clear()
        self.waiting.clear()
        for call in calls:
            if call.timer is not None:
                call.timer.cancel()
            call.push(Unavailable("draining", reason=Reason.DRAINING))

    # --- inside ---

    def _fill(self) -> None:
        while self.waiting and len(self.running) < self.pace.rows_max:
            call = self.waiting.popleft()
            self.running[call] = None
            if self.health is WorkerHealth.FROZEN:
                continue
            cached = self._match(call.ask.prefix)
            call.cached_tokens = cached
            replay = call.start
            tokens = max(1, call.ask.prompt_tokens + replay - cached)
            self.tokens_cached += cached
            self.tokens_done += tokens
            delay = self.slow * tokens / self.pace.prefill_tokens_per_s
            call.timer = asyncio.get_running_loop().call_later(delay, self._speak, call)

    def _speak(self, call: SimCall) -> None:
        """The next message of a call, or its end."""
        if call not in self.running:
            return
        ask = call.ask
        size = max(1, -(-ask.answer_tokens // _MESSAGES))
        if call.next == call.start:
            self._keep(ask.prefix)
            size = 1  # the first token comes alone
        size = min(size, ask.answer_tokens - call.next)
        call.push(b"%d %d" % (call.next, size))
        call.next += size
        self.tokens_done += size
        if call.next >= ask.answer_tokens:
            call.push(None)
            self.running.pop(call, None)
            self._fill()
            self._on_change(self)
            return
        ahead = min(max(1, -(-ask.answer_tokens // _MESSAGES)), ask.answer_tokens - call.next)
        call.timer = asyncio.get_running_loop().call_later(ahead * self.step_s, self._speak, call)

    def _gone(self, call: SimCall) -> None:
        """Nobody listens any more."""
        was = call in self.running or call in self.waiting
        self.running.pop(call, None)
        if call in self.waiting:
            self.waiting.remove(call)
        if was and self.health is not WorkerHealth.DEAD:
            self._fill()
            self._on_change(self)

    def _match(self, prefix: tuple[int, ...]) -> int:
        known = 0
        for key in prefix:
            if key not in self._cache:
                break
            known += 1
        for key in reversed(prefix[:known]):
            self._cache.move_to_end(key)
        return known * BLOCK_TOKENS

    def _keep(self, prefix: tuple[int, ...]) -> None:
        for key in reversed(prefix):
            self._cache[key] = None
            self._cache.move_to_end(key)
            self.digest.hold(key, key)
        while len(self._cache) > self.pace.cache_blocks:
            key, _ = self._cache.popitem(last=False)
            self.digest.evict(key)


def _lost() -> Unavailable:
    return Unavailable("the worker is gone", reason=Reason.WORKER_LOST, retry_after_s=1.0)
