"""Keeps one process running: starts it, waits until it is ready, starts it again when it ends.

STARTING ──ready──> READY ──ends──> ENDED ──delay──> STARTING …      (agent.restart decides delay or end)
    └──────ends──────────────────────┘  └──> GIVEN_UP
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from agent.exits import Exit
from agent.notices import Notice, Notify, Stage
from agent.process import Process, ProcessSpec
from agent.ready import parse_ready
from agent.restart import GiveUp, Restart, RestartPolicy
from agent.settings import AgentSettings
from common.clock import Clock
from common.errors import Conflict, LeptonError, Reason, Unavailable

__all__ = ["Role", "Supervisor"]

_KILL_S_MAX: Final = 5.0
"""SIGKILL needs no consent, but the kernel may take a moment to clear up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One place in the cluster that a process fills, again and again if need be."""

    name: str
    """Short, for people: "etcd", "w1", "router"."""
    spec: Callable[[int], ProcessSpec]
    """What to run for the n-th start, from 0."""
    stop_s_max: float
    """Longest wait for it to finish, seconds."""
    probe: Callable[[], Awaitable[Mapping[str, str]]] | None = None
    """Returns facts once the process serves. None: it says so itself with a `process.ready` line."""


@final
class Supervisor:
    """Owns one role.

    Resources: `start` begins a task that owns the process; `stop` ends both. Errors: only `wait_ready` raises.
    Cancellation: `stop` may be cancelled; `kill` then ends the process at once.
    """

    def __init__(
        self, role: Role, *, settings: AgentSettings, clock: Clock, notify: Notify
    ) -> None:
        self.role = role
        self._settings = settings
        self._clock = clock
        self._notify = notify
        self._policy = RestartPolicy(settings, clock)
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._said = asyncio.Event()  # this start's process has said that it is ready
        self._settled = asyncio.Event()  # ready once, or given up
        self._given_up: LeptonError | None = None
        self._facts: Mapping[str, str] = {}
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process else None

    @property
    def facts(self) -> Mapping[str, str]:
        """What the running process said of itself; empty until it is ready."""
        return self._facts

    @property
    def given_up(self) -> LeptonError | None:
        """Why it is not started any more."""
        return self._given_up

    def start(self) -> None:
        """Begins; returns at once."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=self.role.name)
        self._task.add_done_callback(self._on_end)

    async def wait_ready(self) -> Mapping[str, str]:
        """The facts of the first process that became ready.

        Raises `Conflict` when it refused to start, `Unavailable(PROCESS_FAILED)` when it kept dying or was not ready
        within `ready_s_max`.
        """
        try:
            async with asyncio.timeout(self._settings.ready_s_max):
                await self._settled.wait()
        except TimeoutError:
            message = f"{self.role.name} was not ready within {self._settings.ready_s_max:g} s"
            raise self._failed(message) from None
        if self._given_up is not None:
            raise self._given_up
        if self._task is not None and self._task.done():
            raise self._failed(f"{self.role.name} was stopped before it was ready")
        return self._facts

    async def stop(self) -> None:
        """Ends the process: SIGTERM, and SIGKILL when it takes longer than the role's `stop_s_max`."""
        self._stopping = True
        task = self._task
        if task is None or task.done():
            return
        if self._process is None:
            task.cancel()  # it waits for a restart
        else:
            self._notify(Notice(name=self.role.name, stage=Stage.STOPPING))
            self._process.terminate()
        await asyncio.wait({task}, timeout=self.role.stop_s_max)
        if not task.done():
            self.kill()
            await asyncio.wait({task}, timeout=_KILL_S_MAX)
        self._notify(Notice(name=self.role.name, stage=Stage.STOPPED))

    def kill(self) -> None:
        """Ends the process now, without asking; never blocks."""
        self._stopping = True
        if self._process is not None:
            self._process.kill()

    async def _run(self) -> None:
        start = 0
        while True:
            spec = self.role.spec(start)
            self._notify(Notice(name=self.role.name, stage=Stage.STARTING))
            began = self._clock.now()
            try:
                ended = await self._run_once(spec, began)
            except OSError as error:  # no process or file to be had; that may pass
                ended = Exit(code=1, last_lines=(f"error: could not be started: {error}",))
            if self._stopping:
                return
            decision = self._policy.after(ended, lived_s=self._clock.now() - began)
            if isinstance(decision, GiveUp):
                self._give_up(decision, spec.log_file)
                return
            await self._wait_to_restart(decision, ended)
            start += 1

    async def _run_once(self, spec: ProcessSpec, began: float) -> Exit:
        self._said.clear()
        self._process = Process(
            spec, log_bytes_max=self._settings.log_bytes_max, on_line=self._on_line
        )
        failure: OSError | None = None  # carried out by hand: the TaskGroup would wrap it
        try:
            async with asyncio.TaskGroup() as tasks:
                readiness = tasks.create_task(self._watch_readiness(self._process, began))
                try:
                    return await self._process.run()
                except OSError as error:
                    failure = error
                finally:
                    readiness.cancel()
        finally:
            self._process = None
            self._facts = {}
        raise failure

    async def _watch_readiness(self, process: Process, began: float) -> None:
        try:
            async with asyncio.timeout(self._settings.ready_s_max):
                if self.role.probe is not None:
                    self._facts = await self.role.probe()
                else:
                    await self._said.wait()
        except TimeoutError:
            process.kill()
            return
        took_s = self._clock.now() - began
        self._settled.set()
        self._notify(
            Notice(name=self.role.name, stage=Stage.READY, facts=self._facts, took_s=took_s)
        )

    def _on_line(self, line: str) -> None:
        self._notify(Notice(name=self.role.name, stage=Stage.OUTPUT, text=line))
        if self.role.probe is None and not self._said.is_set():
            facts = parse_ready(line)
            if facts is not None:
                self._facts = facts
                self._said.set()

    async def _wait_to_restart(self, decision: Restart, ended: Exit) -> None:
        self._notify(
            Notice(
                name=self.role.name,
                stage=Stage.ENDED,
                text=ended.why(),
                delay_s=decision.delay_s,
            )
        )
        await self._clock.sleep(decision.delay_s)

    def _give_up(self, decision: GiveUp, log_file: Path) -> None:
        self._given_up = (
            _refusal(self.role.name, decision.why)
            if decision.refused
            else self._failed(f"{self.role.name} {decision.why} (log: {log_file})")
        )
        self._settled.set()
        self._notify(Notice(name=self.role.name, stage=Stage.GIVEN_UP, text=self._given_up.message))

    def _on_end(self, task: asyncio.Task[None]) -> None:
        """Whatever ends it, nobody waits for a process that will never come, and a fault of ours is told."""
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._given_up = self._failed(f"{self.role.name} is not watched any more: {fault!r}")
            self._notify(
                Notice(name=self.role.name, stage=Stage.GIVEN_UP, text=self._given_up.message)
            )
        self._settled.set()

    def _failed(self, message: str) -> Unavailable:
        return Unavailable(message, reason=Reason.PROCESS_FAILED)


def _refusal(name: str, told: str) -> Conflict:
    """A child's `<message> (<REASON>)` as our own error."""
    message, _, last = told.rpartition(" (")
    try:
        reason = Reason(last.removesuffix(")"))
    except ValueError:
        message, reason = told, Reason.SETTING_INVALID
    return Conflict(f"{name}: {message}", reason=reason)
