"""One process of a cluster under test: killed, frozen, stopped, started, and found again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import final

from agent.notices import Notice, Stage
from agent.settings import AgentSettings
from agent.supervisor import Role, Supervisor
from chaos.proxy import FaultProxy
from common.clock import Clock

__all__ = ["Unit"]


@final
class Unit:
    """A role, and the supervisor that fills it; what dies is started again unless told otherwise.

    Resources: `close` ends the process.
    """

    def __init__(
        self,
        role: Role,
        *,
        settings: AgentSettings,
        clock: Clock,
        on_end: Callable[[str], None],
        proxy: FaultProxy | None = None,
    ) -> None:
        starts = itertools.count()  # over all supervisors: an id is never used twice
        self.role = replace(role, spec=lambda _: role.spec(next(starts)))
        self.name = role.name
        self.proxy = proxy
        """In front of its port."""
        self.num_deaths = 0
        """Ends that nobody asked for, SIGKILL of ours included."""
        self._settings = settings
        self._clock = clock
        self._on_end = on_end
        self._supervisor: Supervisor | None = None
        self._ready = asyncio.Event()
        self._is_frozen = False
        self.is_leaving = False
        """From `stop` until it is ready again."""

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._supervisor.pid if self._supervisor else None

    @property
    def facts(self) -> Mapping[str, str]:
        """What the running process said of itself; empty until it is ready."""
        return self._supervisor.facts if self._supervisor else {}

    @property
    def worker_id(self) -> str:
        """The id in the registry, "" until it is ready."""
        return self.facts.get("worker_id", "")

    @property
    def is_ready(self) -> bool:
        """Whether it serves now, frozen or not."""
        return bool(self.facts)

    async def start(self) -> None:
        """Starts it and returns when it is ready; raises `LeptonError` when it does not get there."""
        self._ready.clear()
        self._supervisor = Supervisor(
            self.role, settings=self._settings, clock=self._clock, notify=self._notify
        )
        self._supervisor.start()
        await self._supervisor.wait_ready()
        self.is_leaving = False

    async def ready(self, within_s: float) -> bool:
        """Waits until it serves (again); False when it does not in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._ready.wait()
        return self._ready.is_set()

    def kill(self) -> None:
        """SIGKILL to it and all it started; the supervisor starts it again."""
        self._ready.clear()
        self._signal(signal.SIGKILL)

    async def kill_for_good(self) -> None:
        """SIGKILL, and it stays away until `start`."""
        self._ready.clear()
        if self._supervisor is not None:
            self._supervisor.kill()
            await self._supervisor.stop()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when it takes longer than its role allows; it stays away until `start`."""
        self.is_leaving = True
        self._ready.clear()
        if self._supervisor is not None:
            await self._supervisor.stop()

    def freeze(self) -> None:
        """SIGSTOP: connections stay, nothing answers."""
        self._is_frozen = True
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._is_frozen = False
        self._signal(signal.SIGCONT)

    async def close(self) -> None:
        """Ends it whatever state it is in."""
        if self._is_frozen:
            self.thaw()
        await self.stop()

    def _signal(self, number: signal.Signals) -> None:
        if (pid := self.pid) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)  # each process of ours leads a group

    def _notify(self, notice: Notice) -> None:
        if notice.stage is Stage.READY:
            self._ready.set()
        elif notice.stage in {Stage.ENDED, Stage.GIVEN_UP}:
            self._ready.clear()
            self.num_deaths += 1
            self._on_end(f"{notice.name} {notice.text}")
