"""One place of the fleet: a router process that is started again whenever it ends.

Parent and child talk over two pipes: the child writes one JSON line when it serves, and ends when its input does, that
is when the parent is gone, whatever ended it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final, final

from common.clock import Clock
from common.errors import Conflict, Reason
from common.logs import get_logger
from common.process import REFUSED
from router.core.waiting import happens_within

__all__ = ["CHILD", "OnReady", "Place", "Ports", "RestartLimits"]

CHILD: Final = "router.fleet.child"
"""The module that a child runs."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where a router listens."""

    grpc: int
    metrics: int
    http: int
    """0: nowhere."""


OnReady = Callable[[Ports], None]
"""Called once when calls are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartLimits:
    """How soon a process is started again."""

    wait_s_min: float
    """Before the first restart; doubles with each that follows soon."""
    wait_s_max: float
    """Longest wait; who lived for longer starts over with the first."""


@final
class Place:
    """Runs one process after the other. `run` owns them; the rest may be used while it runs.

    Resources: no process is left when `run` returns, is cancelled, or this process dies. Errors: see `run`.
    """

    def __init__(
        self,
        name: str,
        *,
        env: Mapping[str, str],
        limits: RestartLimits,
        on_restart: Callable[[], None],
        clock: Clock,
        random: Random,
    ) -> None:
        self.name = name
        self.metrics_port: int | None = None
        """Of the process that serves now; None while none does."""
        self.ready = asyncio.Event()
        """Set when the first process serves; stays set."""
        self._env = dict(env)
        self._limits = limits
        self._on_restart = on_restart
        self._clock = clock
        self._random = random
        self._process: Process | None = None
        self._stopping = asyncio.Event()

    def __repr__(self) -> str:
        state = "serving" if self.metrics_port else "not serving"
        return f"Place({self.name}, {state}, pid {self._process.pid if self._process else None})"

    async def run(self) -> None:
        """Until `stop` was called and the process has ended.

        Raises `Conflict` when the very first process refused to start. Cancellation: kills the process.
        """
        wait_s = self._limits.wait_s_min
        while not self._stopping.is_set():
            began = self._clock.now()
            code = await self._one_life()
            if self._stopping.is_set():
                return
            if code == REFUSED and not self.ready.is_set():
                raise Conflict(
                    f"router process {self.name} refused to start; what it said stands above",
                    reason=Reason.SETTING_INVALID,
                )
            if self._clock.now() - began > self._limits.wait_s_max:
                wait_s = self._limits.wait_s_min
            pause_s = wait_s * self._random.uniform(0.5, 1.0)
            log.warning("fleet.process_ended", process=self.name, code=code, restart_in_s=pause_s)
            wait_s = min(2 * wait_s, self._limits.wait_s_max)
            await happens_within(self._stopping, pause_s, self._clock)
            self._on_restart()

    def stop(self) -> None:
        """Asks the process to drain; no further one is started."""
        self._stopping.set()
        self._terminate()

    def _terminate(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    async def _one_life(self) -> int:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", CHILD), stdin=PIPE, stdout=PIPE, env=self._env
        )
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        self._process = process
        try:
            if self._stopping.is_set():
                self._terminate()
            async for line in process.stdout:
                self.metrics_port = json.loads(line)["metrics_port"]
                self.ready.set()
            return await process.wait()
        finally:
            self.metrics_port = None
            self._process = None
            if process.returncode is None:
                process.kill()
                await process.wait()
