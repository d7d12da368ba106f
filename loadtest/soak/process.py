"""A worker process under observation: memory, files, threads from outside, tasks from inside. Linux."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from agent.process import Process, ProcessSpec
from agent.ready import parse_ready
from chaos.vitals import Holdings, held_by
from common.errors import Reason, Unavailable
from loadtest.soak.worker import LEAK_ENV, VITALS_EVENT

__all__ = ["ObservedWorker", "Vitals", "observed_worker"]

ROOT: Final = Path(__file__).resolve().parents[2]
START_S_MAX: Final = 60.0
STOP_S_MAX: Final = 60.0
VITALS_S_MAX: Final = 10.0
LOG_BYTES_MAX: Final = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals(Holdings):
    """What a process holds at one moment."""

    tasks: int
    """Of asyncio, those that have not ended."""


@final
class ObservedWorker:
    """Made by `observed_worker`."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._tasks: asyncio.Future[int] | None = None
        self.address = ""
        self.ready = asyncio.Event()

    def take_line(self, line: str) -> None:
        """Each line that the process writes."""
        if VITALS_EVENT in line and self._tasks is not None and not self._tasks.done():
            self._tasks.set_result(int(json.loads(line)["tasks"]))
        elif (fields := parse_ready(line)) is not None:
            self.address = fields["address"]
            self.ready.set()

    async def vitals(self) -> Vitals:
        """Asks now. Raises `Unavailable(PROCESS_FAILED)` when it has ended, or its event loop does not answer."""
        pid = self._process.pid
        if pid is None:
            raise Unavailable("the worker has ended", reason=Reason.PROCESS_FAILED)
        self._tasks = asyncio.get_running_loop().create_future()
        os.kill(pid, signal.SIGUSR1)
        try:
            tasks = await asyncio.wait_for(self._tasks, VITALS_S_MAX)
        except TimeoutError:
            raise Unavailable(
                f"the worker's event loop has not answered for {VITALS_S_MAX:g} s",
                reason=Reason.PROCESS_FAILED,
            ) from None
        held = held_by(pid)
        return Vitals(rss=held.rss, files=held.files, threads=held.threads, tasks=tasks)


@asynccontextmanager
async def observed_worker(
    log: Path, model: Path, *, leak_kib: int, flags: dict[str, object]
) -> AsyncIterator[ObservedWorker]:
    """A worker on a free port; its log goes to `log`. Drains it at the end, and fails unless it leaves with 0.

    Raises `Unavailable(PROCESS_FAILED)` when it does not start or ends by itself.
    """
    settings = {"model-dir": model, "port": 0, "telemetry.log-format": "json", **flags}
    arguments = [text for key, value in settings.items() for text in (f"--{key}", str(value))]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LEPTON_", "OTEL_"))}
    spec = ProcessSpec(
        name="worker",
        argv=(sys.executable, "-m", "loadtest.soak.worker", *arguments),
        env={**env, "PYTHONPATH": str(ROOT), LEAK_ENV: str(leak_kib)},
        log_file=log,
    )
    process = Process(
        spec, log_bytes_max=LOG_BYTES_MAX, on_line=lambda line: worker.take_line(line)
    )
    worker = ObservedWorker(process)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(process.run())
        started = group.create_task(worker.ready.wait())
        try:
            await asyncio.wait(
                {running, started}, timeout=START_S_MAX, return_when=asyncio.FIRST_COMPLETED
            )
            if not worker.ready.is_set():
                why = running.result().why() if running.done() else "it is not ready in time"
                raise Unavailable(f"the worker did not start: {why}", reason=Reason.PROCESS_FAILED)
            yield worker
            process.terminate()
            await asyncio.wait({running}, timeout=STOP_S_MAX)
            if not running.done() or running.result().code:
                why = running.result().why() if running.done() else "did not end in time"
                raise Unavailable(f"the worker {why}", reason=Reason.PROCESS_FAILED)
        finally:
            started.cancel()
            process.kill()
