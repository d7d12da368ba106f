"""One child process from start to end: its own process group, its output line by line, no way to outlive us."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from agent.exits import Exit
from agent.logfile import LogFile

__all__ = ["Process", "ProcessSpec"]

_LIFELINE: Final = Path(__file__).with_name("lifeline.py")
_READ_BYTES: Final = 64 * 1024
_LINE_BYTES_MAX: Final = 64 * 1024
_LAST_LINES: Final = 20
_OUTPUT_S_MAX: Final = 1.0
"""How long output is still read after the end; something it started may hold the pipe open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """What to run."""

    name: str
    """Short, for people: "w1", "router"."""
    argv: tuple[str, ...]
    """Program and arguments."""
    env: Mapping[str, str]
    """The whole environment. Secrets go here, never into `argv`, which every user of the machine can read."""
    log_file: Path
    """Where its output goes."""


@final
class Process:
    """Runs a `ProcessSpec` once.

    Resources: `run` owns the process, its whole group and the pipe; all are gone when it returns or is cancelled.
    Errors: none for the program's own failures, they are in the `Exit`. An end may be asked for at any
    time; before there is a process it takes effect when there is one.
    """

    def __init__(
        self, spec: ProcessSpec, *, log_bytes_max: int, on_line: Callable[[str], None]
    ) -> None:
        self._spec = spec
        self._log_bytes_max = log_bytes_max
        self._on_line = on_line
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._pid: int | None = None
        self._wanted: signal.Signals | None = None
        """An end that was asked for before there was a process to tell."""

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._pid

    async def run(self) -> Exit:
        """Starts it, hands every line of stdout and stderr to `on_line`, and returns how it ended."""
        log = LogFile(self._spec.log_file, bytes_max=self._log_bytes_max)
        # A pipe of our own: asyncio's Process.wait() would wait for the end of its pipes, which a grandchild can hold.
        try:
            read_end, write_end = os.pipe()
        except OSError:
            log.close()
            raise
        try:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(_LIFELINE), str(os.getpid())),
                *self._spec.argv,
                env=dict(self._spec.env),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,  # Ctrl-C in the terminal reaches the agent alone, which decides the order
            )
        except BaseException:
            os.close(read_end)
            log.close()
            raise
        finally:
            os.close(write_end)
        self._pid = child.pid
        if self._wanted is not None:
            self._signal_group(self._wanted)
        try:
            async with asyncio.TaskGroup() as tasks:
                output = tasks.create_task(self._read(read_end, log))
                code = await child.wait()
                self._signal_group(signal.SIGKILL)  # what it may have left behind
                await asyncio.wait({output}, timeout=_OUTPUT_S_MAX)
                output.cancel()
        finally:
            if child.returncode is None:
                self._signal_group(signal.SIGKILL)
                await child.wait()
            self._pid = None
            log.close()
        return Exit(code=code, last_lines=tuple(self._last))

    def terminate(self) -> None:
        """Asks it to finish (SIGTERM to the process itself)."""
        self._wanted = self._wanted or signal.SIGTERM
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)

    def kill(self) -> None:
        """Ends it and everything it started (SIGKILL)."""
        self._wanted = signal.SIGKILL
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, number)

    async def _read(self, read_end: int, log: LogFile) -> None:
        reader = asyncio.StreamReader(limit=_READ_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", 0)
        )
        rest = b""
        try:
            while chunk := await reader.read(_READ_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._take(line, log)
                if len(rest) > _LINE_BYTES_MAX:
                    self._take(rest, log)
                    rest = b""
        finally:
            if rest:
                self._take(rest, log)
            transport.close()

    def _take(self, line: bytes, log: LogFile) -> None:
        log.write(line)
        text = line.decode("utf-8", "replace").rstrip()
        self._last.append(text)
        self._on_line(text)
