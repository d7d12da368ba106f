"""The real `lepton up` as a user starts it, and everything it started, seen from outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.state import ClusterState, StateDir
from tests.support.patience import PATIENCE_S
from tests.support.processes import ROOT, until

__all__ = [
    "ANY_PORTS",
    "Done",
    "LeptonUp",
    "cluster_for_a_file",
    "lepton",
    "lepton_up",
    "marked",
    "start_lepton",
]

ANY_PORTS = ("--port=0", "--http-port=0", "--metrics-port=0")
_MARK = "E2E_MARK"
"""An environment variable that every descendant inherits, whatever it does with sessions and groups."""


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The last line of stdout."""
        return json.loads(self.stdout.splitlines()[-1])


@dataclass(slots=True)
class LeptonUp:
    """A `lepton up --json` that runs."""

    folder: Path
    mark: str
    process: asyncio.subprocess.Process
    events: list[dict[str, Any]] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    """Lines that are no JSON: errors."""

    def named(self, event: str, name: str | None = None) -> list[dict[str, Any]]:
        """What happened so far."""
        return [e for e in self.events if e.get("event") == event and name in (None, e.get("name"))]

    async def until_ready(self) -> None:
        """Until it has given its first answer."""
        await until(
            lambda: bool(self.named("cluster.first_answer")) or self.process.returncode is not None,
            what="lepton up has answered",
        )
        assert self.named("cluster.first_answer"), f"{self.events}\n{self.other}"

    @property
    def state(self) -> ClusterState:
        state = StateDir(self.folder).read()
        assert state is not None
        return state

    def pid(self, name: str) -> int:
        """Process id of "w1", "etcd", "router"."""
        return next(one.pid for one in self.state.processes if one.name == name and one.pid)

    async def run(self, *arguments: str) -> Done:
        """Another command on the same cluster."""
        return await lepton(*arguments, state=self.folder)

    async def interrupt(self, number: signal.Signals = signal.SIGINT) -> int:
        """As Ctrl-C; returns the exit code."""
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), PATIENCE_S)

    async def until_gone(self) -> None:
        """Nothing that it started is left."""
        await until(lambda: not marked(self.mark), what=f"gone: {marked(self.mark)}")


def marked(mark: str) -> list[str]:
    """The command lines of all processes with this mark."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{_MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it ended while we looked
            continue
    return found


async def lepton(*arguments: str, state: Path, mark: str = "", text: str = "") -> Done:
    """Runs `lepton …` to its end."""
    process = await start_lepton(*arguments, state=state, mark=mark)
    out, err = await asyncio.wait_for(process.communicate(text.encode()), 90)
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def lepton_up(folder: Path, *arguments: str) -> AsyncIterator[LeptonUp]:
    """`lepton up --json` with two workers on free ports; killed at the end of the block if it still runs."""
    mark = uuid.uuid4().hex
    process = await start_lepton("up", *ANY_PORTS, "--json", *arguments, state=folder, mark=mark)
    up = LeptonUp(folder=folder, mark=mark, process=process)
    async with asyncio.TaskGroup() as tasks:
        assert process.stdout is not None
        assert process.stderr is not None
        tasks.create_task(_read(process.stdout, lambda line: up.events.append(json.loads(line))))
        tasks.create_task(_read(process.stderr, up.other.append))
        try:
            yield up
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await up.until_gone()


@contextmanager
def cluster_for_a_file(folder: Path, *flags: str) -> Iterator[ClusterState]:
    """`lepton up` in `folder` for the length of the block, without an event loop: for fixtures of a whole file. It ends
    well, or it is killed, and its processes with it.
    """
    said = folder / "up.jsonl"  # a file, since nobody reads a pipe while the tests run
    with said.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "up", "--json", *flags],
            cwd=ROOT,
            env=_env(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
        )
    try:
        while b'"cluster.first_answer"' not in said.read_bytes():
            with contextlib.suppress(subprocess.TimeoutExpired):
                pytest.fail(f"lepton up ended with {process.wait(0.05)}:\n{said.read_text()}")
        state = StateDir(folder).read()
        assert state is not None
        yield state
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()


def _env(state: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LEPTON_", "OTEL_"))}
    return {
        **kept,
        "LEPTON_AGENT_STATE_DIR": str(state),
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "common" / "gen"))),
    }


async def start_lepton(
    *arguments: str, state: Path, mark: str = "", module: str = "cli.main"
) -> asyncio.subprocess.Process:
    """Begins `lepton …`."""
    env = {**_env(state), "COLUMNS": "160", **({_MARK: mark} if mark else {})}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        cwd=ROOT,
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 22,
        start_new_session=True,
    )


async def _read(stream: asyncio.StreamReader, take: Callable[[str], Any]) -> None:
    async for line in stream:
        take(line.decode("utf-8", "replace").rstrip("\n"))
