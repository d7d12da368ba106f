"""Processes that try grammars out, kept for the next one, replaced when a grammar kills them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from dataclasses import asdict
from typing import Any, Final, final

from common.errors import Reason, Unavailable
from common.logs import get_logger
from worker.engine.grammar import Constraint
from worker.runtime.grammar.limits import GrammarLimits
from worker.runtime.grammar.refusal import Refusal, too_large
from worker.runtime.grammar.tokens import TokenTable
from worker.runtime.grammar.trial import LENGTH_BYTES, frame

__all__ = ["Trials"]

_START_S_MAX: Final = 30.0
"""Longest that a process may take to read the vocabulary, seconds."""
_LATE_S_MAX: Final = 2.0
"""How long after the limit a trial is ended from outside, seconds; its own alarm comes first."""
_TRIALS_PER_PROCESS: Final = 1000
"""Then it is replaced: memory that an allocator keeps would count against the next grammar."""

log = get_logger(__name__)


@final
class Trials:
    """A bounded number of processes. Used on one event loop; who calls bounds how many wait.

    Resources: owns the processes, the first of which starts with the first constraint, until `close`.
    Errors of `run`: `Unavailable`, PROCESS_FAILED when no process can be started, as on a machine without a moment or
    without memory to spare, DRAINING once it is closed.
    Cancellation: the trial is ended, and its process with it.
    """

    def __init__(self, table: TokenTable, limits: GrammarLimits, *, processes: int) -> None:
        self._table = table
        self._limits = limits
        self._places = asyncio.Semaphore(processes)
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self.num_started = 0
        """Processes so far."""
        self._is_closed = False

    async def run(self, constraint: Constraint) -> Refusal | None:
        """None when the constraint compiles within the limits, else why not."""
        async with self._places:
            return await self._run(constraint)

    async def close(self) -> None:
        """Ends all processes; whose trial that ends gets `Unavailable(DRAINING)`."""
        self._is_closed = True
        for process in [*self._idle, *self._busy]:
            await process.kill()
        self._idle.clear()

    async def _run(self, constraint: Constraint) -> Refusal | None:
        process = await self._take()
        self._busy.add(process)
        try:
            async with asyncio.timeout(self._limits.compile_s_max + _LATE_S_MAX):
                verdict = await process.ask(
                    {"kind": constraint.kind.value, "texts": constraint.texts}
                )
        except TimeoutError:
            await process.kill()
            return self._late()
        except (OSError, EOFError):
            return self._died(await process.kill())
        except BaseException:
            await process.kill()
            raise
        finally:
            self._busy.discard(process)
        if process.num_asked < _TRIALS_PER_PROCESS:
            self._idle.append(process)
        else:
            await process.kill()
        if verdict["reason"] is None:
            return None
        return Refusal(Reason(verdict["reason"]), verdict["message"])

    async def _take(self) -> _Process:
        while self._idle:
            process = self._idle.pop()
            if not process.has_ended:
                return process
            await process.kill()
        return await self._start()

    def _died(self, code: int) -> Refusal:
        if self._is_closed:
            raise Unavailable("this worker is draining; ask another", reason=Reason.DRAINING)
        log.warning("grammar.trial_died", code=code)
        if code == -signal.SIGALRM:
            return self._late()
        return too_large(
            f"it needs more than {self._limits.memory_mib_max} MiB (setting worker.grammar_memory_mib_max) to "
            "compile, or is nested too deeply"
        )

    def _late(self) -> Refusal:
        return too_large(
            f"it takes more than {self._limits.compile_s_max:g} s to compile "
            "(setting worker.grammar_compile_s_max)",
            is_late=True,
        )

    async def _start(self) -> _Process:
        self.num_started += 1
        try:
            process = await _Process.start()
        except OSError as error:
            log.exception("grammar.trial_not_started")
            raise _not_started() from error
        try:
            hello = await asyncio.to_thread(self._hello)
            async with asyncio.timeout(_START_S_MAX):
                await process.exchange(hello)
        except (OSError, EOFError, TimeoutError) as error:
            log.exception("grammar.trial_not_started", code=await process.kill())
            raise _not_started() from error
        except BaseException:
            await process.kill()
            raise
        return process

    def _hello(self) -> bytes:
        return frame(
            {
                "tokens": [token.decode("latin-1") for token in self._table.token_bytes],
                "control_ids": self._table.control_ids,
                "eos_ids": self._table.eos_ids,
                "limits": asdict(self._limits),
            }
        )


def _not_started() -> Unavailable:
    return Unavailable(
        "this worker could not start the process that tries constraints out; ask again, or another worker",
        reason=Reason.PROCESS_FAILED,
    )


class _Process:
    """One process of `worker.runtime.grammar.trial`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        stdin: asyncio.StreamWriter,
        stdout: asyncio.StreamReader,
    ) -> None:
        self._process = process
        self._stdin = stdin
        self._stdout = stdout
        self.num_asked = 0

    @property
    def has_ended(self) -> bool:
        """Whether it is gone by itself."""
        return self._process.returncode is not None or self._stdout.at_eof()

    @classmethod
    async def start(cls) -> _Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "worker.runtime.grammar.trial"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # An allocator that gives up prints its last words; ours are in the refusal.
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdin is not None  # noqa: S101 - narrows for mypy
        assert process.stdout is not None  # noqa: S101 - narrows for mypy
        return cls(process, process.stdin, process.stdout)

    async def ask(self, question: dict[str, Any]) -> Any:
        self.num_asked += 1
        return await self.exchange(frame(question))

    async def exchange(self, sent: bytes) -> Any:
        """Raises `EOFError` or `OSError` when the process is gone."""
        if self._stdin.is_closing():  # libuv's loop would call writing to it a RuntimeError
            raise BrokenPipeError("the process has ended")
        self._stdin.write(sent)
        await self._stdin.drain()
        head = await self._stdout.readexactly(LENGTH_BYTES)
        return json.loads(await self._stdout.readexactly(int.from_bytes(head, "big")))

    async def kill(self) -> int:
        """Ends it, if it lives, and returns the code with which it ended."""
        if not self._stdout.at_eof():  # else it is ending by itself, and the code says how
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        self._stdin.close()
        return await self._process.wait()
