"""Real child processes under a supervisor: ready, restarted, given up, stopped, never left behind."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.notices import Notice, Stage
from agent.process import Process, ProcessSpec
from agent.settings import AgentSettings
from agent.state import started_at
from agent.supervisor import Role, Supervisor
from common.clock import SystemClock
from common.errors import Conflict, Reason, Unavailable
from tests.support.patience import PATIENCE_S
from tests.support.processes import ROOT, until

SETTINGS = AgentSettings(restart_s_first=0.01, crashes_max=3, ready_s_max=20.0)

SERVES = """
import json, signal, sys, time
print(json.dumps({"event": "process.ready", "address": "127.0.0.1:7"}), file=sys.stderr, flush=True)
signal.pause()
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVES
CRASHES = "raise ValueError('broken')"
REFUSES = "import sys; print('error: no model there (MODEL_FILE_MISSING)'); sys.exit(2)"


class Stand:
    """One supervisor and all it said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notices: list[Notice] = []
        self.changed = asyncio.Event()
        self.made: list[Supervisor] = []

    def supervise(
        self, *codes: str, settings: AgentSettings = SETTINGS, stop_s_max: float = 10.0
    ) -> Supervisor:
        def spec(start: int) -> ProcessSpec:
            return make_spec(self.folder, codes[min(start, len(codes) - 1)])

        role = Role(name="p", spec=spec, stop_s_max=stop_s_max)
        one = Supervisor(role, settings=settings, clock=SystemClock(), notify=self.notify)
        self.made.append(one)
        one.start()
        return one

    def notify(self, notice: Notice) -> None:
        self.notices.append(notice)
        self.changed.set()

    def stages(self) -> list[Stage]:
        return [notice.stage for notice in self.notices if notice.stage is not Stage.OUTPUT]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self.changed.clear()
                await self.changed.wait()


def make_spec(folder: Path, code: str) -> ProcessSpec:
    return ProcessSpec(
        name="p",
        argv=(sys.executable, "-c", code),
        env={"PATH": os.environ["PATH"]},
        log_file=folder / "p.log",
    )


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    stand = Stand(tmp_path)
    yield stand
    for one in stand.made:
        one.kill()
        await one.stop()


async def test_a_process_that_says_so_is_ready_and_stops_when_asked(stand: Stand) -> None:
    one = stand.supervise(SERVES)
    facts = await one.wait_ready()
    assert facts["address"] == "127.0.0.1:7"
    pid = one.pid
    assert pid is not None
    await one.stop()
    assert stand.stages() == [Stage.STARTING, Stage.READY, Stage.STOPPING, Stage.STOPPED]
    assert started_at(pid) == 0
    assert "process.ready" in (stand.folder / "p.log").read_text()


async def test_a_killed_process_is_started_again(stand: Stand) -> None:
    one = stand.supervise(SERVES)
    await one.wait_ready()
    first = one.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await stand.until(lambda: stand.stages().count(Stage.READY) == 2)
    assert one.pid not in (None, first)
    (ended,) = [notice for notice in stand.notices if notice.stage is Stage.ENDED]
    assert ended.text == "killed by SIGKILL"


async def test_a_process_that_keeps_crashing_is_given_up_with_its_last_words(stand: Stand) -> None:
    one = stand.supervise(CRASHES)
    with pytest.raises(Unavailable) as failed:
        await one.wait_ready()
    assert failed.value.reason is Reason.PROCESS_FAILED
    assert "ended 3 times" in failed.value.message
    assert "ValueError: broken" in failed.value.message
    assert "p.log" in failed.value.message


async def test_a_refusal_is_shown_with_its_reason_and_not_tried_again(stand: Stand) -> None:
    one = stand.supervise(REFUSES)
    with pytest.raises(Conflict) as refused:
        await one.wait_ready()
    assert refused.value.reason is Reason.MODEL_FILE_MISSING
    assert refused.value.message == "p: no model there"
    assert stand.stages() == [Stage.STARTING, Stage.GIVEN_UP]


async def test_a_crash_before_it_is_ready_is_mended_by_the_next_start(stand: Stand) -> None:
    one = stand.supervise(CRASHES, SERVES)
    await one.wait_ready()
    assert stand.stages() == [Stage.STARTING, Stage.ENDED, Stage.STARTING, Stage.READY]


async def test_a_process_that_never_gets_ready_fails_the_start(stand: Stand) -> None:
    settings = SETTINGS.model_copy(update={"ready_s_max": 0.3})
    one = stand.supervise("import signal; signal.pause()", settings=settings)
    with pytest.raises(Unavailable, match=r"p was not ready within 0\.3 s"):
        await one.wait_ready()


async def test_a_program_that_is_not_there_says_so(stand: Stand) -> None:
    def spec(_: int) -> ProcessSpec:
        return ProcessSpec(name="p", argv=("/no/such",), env={}, log_file=stand.folder / "p.log")

    role = Role(name="p", spec=spec, stop_s_max=1)
    one = Supervisor(role, settings=SETTINGS, clock=SystemClock(), notify=stand.notify)
    stand.made.append(one)
    one.start()
    with pytest.raises(Unavailable, match="cannot run /no/such"):
        await one.wait_ready()


async def test_a_log_that_cannot_be_written_fails_the_start(stand: Stand) -> None:
    (stand.folder / "p.log").mkdir()
    one = stand.supervise(SERVES)
    with pytest.raises(Unavailable, match="could not be started"):
        await one.wait_ready()


async def test_a_start_that_fails_for_a_moment_is_tried_again(stand: Stand) -> None:
    """No process to be had, no file: a machine short of something for a second must not cost a worker."""
    (stand.folder / "taken").mkdir()

    def spec(start: int) -> ProcessSpec:
        whole = make_spec(stand.folder, SERVES)
        return replace(whole, log_file=stand.folder / "taken") if start == 0 else whole

    role = Role(name="p", spec=spec, stop_s_max=10)
    one = Supervisor(role, settings=SETTINGS, clock=SystemClock(), notify=stand.notify)
    stand.made.append(one)
    one.start()
    await one.wait_ready()
    assert stand.stages() == [Stage.STARTING, Stage.ENDED, Stage.STARTING, Stage.READY]
    assert "could not be started" in stand.notices[1].text


async def test_a_fault_of_ours_is_told_and_nobody_waits(stand: Stand) -> None:
    def spec(_: int) -> ProcessSpec:
        raise RuntimeError("a fault")

    role = Role(name="p", spec=spec, stop_s_max=1)
    one = Supervisor(role, settings=SETTINGS, clock=SystemClock(), notify=stand.notify)
    stand.made.append(one)
    one.start()
    with pytest.raises(Unavailable, match="a fault"):
        await one.wait_ready()
    assert stand.stages() == [Stage.GIVEN_UP]


@pytest.mark.parametrize(("end", "code"), [("terminate", -15), ("kill", -9)])
async def test_an_end_asked_for_while_it_is_being_started_is_not_lost(
    tmp_path: Path, end: str, code: int
) -> None:
    """Otherwise an early Ctrl-C waits until the process is killed for not listening."""
    process = Process(make_spec(tmp_path, SERVES), log_bytes_max=4096, on_line=lambda _: None)
    getattr(process, end)()
    async with asyncio.timeout(PATIENCE_S):
        assert (await process.run()).code == code


async def test_who_does_not_listen_is_killed(stand: Stand) -> None:
    one = stand.supervise(STUBBORN, stop_s_max=0.2)
    await one.wait_ready()
    pid = one.pid
    assert pid is not None
    await one.stop()
    assert started_at(pid) == 0


async def test_stopping_while_it_waits_for_a_restart_is_quick(stand: Stand) -> None:
    settings = SETTINGS.model_copy(update={"restart_s_first": 600.0, "restart_s_max": 600.0})
    one = stand.supervise(CRASHES, settings=settings)
    await stand.until(lambda: Stage.ENDED in stand.stages())
    async with asyncio.timeout(PATIENCE_S):
        await one.stop()
    assert stand.stages()[-1] is Stage.STOPPED


async def test_what_a_process_started_ends_with_it(tmp_path: Path) -> None:
    pids: list[int] = []
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "print(child.pid, flush=True)"
    )
    process = Process(
        make_spec(tmp_path, code),
        log_bytes_max=4096,
        on_line=lambda line: pids.append(int(line)),
    )
    async with asyncio.timeout(PATIENCE_S):
        ended = await process.run()  # although the grandchild holds the pipe
    assert ended.code == 0
    (grandchild,) = pids
    await until(lambda: not started_at(grandchild), what="the grandchild is gone")


async def test_output_is_split_into_lines_whatever_it_is(tmp_path: Path) -> None:
    lines: list[str] = []
    code = (
        "import sys; o = sys.stdout.buffer\n"
        "o.write(b'one\\n\\xff\\xfe two\\n' + b'x' * 200_000 + b'\\nno end')"
    )
    process = Process(make_spec(tmp_path, code), log_bytes_max=1 << 20, on_line=lines.append)
    await process.run()
    assert lines[0] == "one"
    assert lines[1] == "\ufffd\ufffd two"
    assert lines[-1] == "no end"
    assert sum(len(line) for line in lines[2:-1]) == 200_000


async def test_a_start_without_a_pipe_closes_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is short of descriptors as it is, and will be tried again."""

    def refuse() -> tuple[int, int]:
        raise OSError(errno.EMFILE, "too many open files")

    process = Process(make_spec(tmp_path, SERVES), log_bytes_max=4096, on_line=lambda _: None)
    with monkeypatch.context() as short:
        short.setattr(os, "pipe", refuse)
        with pytest.raises(OSError, match="too many open files"):
            await process.run()
    gc.collect()  # what is still open warns, which fails the test


async def test_a_cancelled_run_leaves_nothing(tmp_path: Path) -> None:
    ready = asyncio.Event()
    process = Process(
        make_spec(tmp_path, SERVES), log_bytes_max=4096, on_line=lambda _: ready.set()
    )
    running = asyncio.ensure_future(process.run())
    async with asyncio.timeout(PATIENCE_S):
        await ready.wait()
    pid = process.pid
    assert pid is not None
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert started_at(pid) == 0


async def test_children_die_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    """The parent gets SIGKILL, so that none of its own code can clear up."""
    parent_code = (
        "import asyncio, os, pathlib\n"
        "from agent.process import Process, ProcessSpec\n"
        f"spec = ProcessSpec(name='p', argv={(sys.executable, '-c', SERVES)!r},"
        f" env=dict(os.environ), log_file=pathlib.Path({str(tmp_path / 'p.log')!r}))\n"
        "process = Process(spec, log_bytes_max=4096,"
        " on_line=lambda _: print(process.pid, flush=True))\n"
        "asyncio.run(process.run())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", parent_code, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    assert started_at(child) > 0
    parent.kill()
    await parent.wait()
    await until(lambda: not started_at(child), what="the child is gone")
