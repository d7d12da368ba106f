"""The clients: what each needs, how it is built, and its driver while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self, final

from pydantic import BaseModel, ConfigDict

from tests.conformance.case import Report

__all__ = ["ROOT", "Client", "Driver", "SilentError", "load_clients"]

ROOT: Final = Path(__file__).resolve().parents[2]
_FILE: Final = Path(__file__).parent / "clients.toml"
_LINE_BYTES_MAX: Final = 64 << 20
_BUILD_S_MAX: Final = 900.0
_END_S_MAX: Final = 5.0


class SilentError(Exception):
    """The driver did not report: it ended, took too long, or wrote something else."""


class Client(BaseModel):
    """One section of `clients.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    folder: str
    needs: tuple[str, ...]
    build: tuple[tuple[str, ...], ...] = ()
    driver: tuple[str, ...]

    @property
    def missing(self) -> list[str]:
        """Programs that this machine lacks."""
        return [program for program in self.needs if shutil.which(program) is None]

    async def make(self) -> None:
        """Builds it. RuntimeError with the end of the output when that fails."""
        for command in self.build:
            process = await asyncio.create_subprocess_exec(
                *self._argv(command),
                cwd=ROOT / self.folder,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await asyncio.wait_for(process.communicate(), _BUILD_S_MAX)
            if process.returncode:
                end = output.decode(errors="replace")[-4000:]
                raise RuntimeError(f"{self.name}: {' '.join(command)} failed:\n{end}")

    def _argv(self, command: tuple[str, ...]) -> list[str]:
        return [part.replace("{python}", sys.executable) for part in command]

    @asynccontextmanager
    async def drive(self) -> AsyncIterator[Driver]:
        """Its driver, started; ended with the block."""
        async with Driver(self.name, self._argv(self.driver), ROOT / self.folder) as driver:
            yield driver


@final
class Driver:
    """A process that takes commands and writes reports; started again after it was silent."""

    def __init__(self, name: str, argv: list[str], folder: Path) -> None:
        self._name = name
        self._argv = argv
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def ask(self, command: dict[str, Any], *, within_s: float) -> Report:
        """The report on one command. Raises `SilentError`; the next command then gets a new process."""
        process = await self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(command).encode() + b"\n")
            await process.stdin.drain()
            line = await asyncio.wait_for(process.stdout.readline(), within_s)
        except TimeoutError:
            await self._stop()
            raise SilentError(f"no report within {within_s:g} s") from None
        except (OSError, ValueError) as error:
            await self._stop()
            raise SilentError(f"the driver cannot be talked to: {error}") from error
        try:
            report = Report.model_validate_json(line)
        except ValueError as error:
            await self._stop()
            what = line.decode(errors="replace")[:200] or "the driver ended"
            raise SilentError(f"no report but {what!r}: {error}") from error
        if report.id != command["id"]:
            await self._stop()
            raise SilentError(f"a report on {report.id}, not on {command['id']}")
        return report

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            kept = {k: v for k, v in os.environ.items() if not k.startswith(("LEPTON_", "OTEL_"))}
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                cwd=self._folder,
                env=kept,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=None,  # what it says in despair is for people
                limit=_LINE_BYTES_MAX,
            )
        return self._process

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _END_S_MAX)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def load_clients() -> dict[str, Client]:
    """By name."""
    sections = tomllib.loads(_FILE.read_text("utf-8"))
    return {name: Client(name=name, **section) for name, section in sections.items()}
