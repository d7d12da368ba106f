"""Processes that try grammars out, kept for the next one, replaced when a grammar kills them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from dataclasses import asdict
from typing import Any, Final, final

from common.errors import Internal, Overloaded, Reason
from common.logs import get_logger
from worker.engine.grammar import Constraint
from worker.runtime.grammar.limits import GrammarLimits
from worker.runtime.grammar.refusal import Refusal, too_large
from worker.runtime.grammar.tokens import TokenTable
from worker.runtime.grammar.trial import LENGTH_BYTES, frame

__all__ = ["Trials"]

_RETRY_AFTER_S: Final = 1.0
_START_S_MAX: Final = 30.0
"""Longest that a process may take to read the vocabulary, seconds."""
_LATE_S_MAX: Final = 2.0
"""How long after the limit a trial is ended from outside, seconds; its own alarm comes first."""
_TRIALS_PER_PROCESS: Final = 1000
"""Then it is replaced: memory that an allocator keeps would count against the next grammar."""

log = get_logger(__name__)


@final
class Trials:
    """A bounded number of processes and of constraints that wait for one. Used on one event loop.

    Resources: owns the processes, the first of which starts with the first constraint, until `close`.
    Errors of `run`: `Refusal`; `Overloaded(QUEUE_FULL)`; `Internal` when no process can be started.
    Cancellation: the trial is ended, and its process with it.
    """

    def __init__(
        self, table: TokenTable, limits: GrammarLimits, *, processes: int, waiting_max: int
    ) -> None:
        self._table = table
        self._limits = limits
        self._places = asyncio.Semaphore(processes)
        self._num_inside_max = processes + waiting_max
        self._num_inside = 0
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self.num_started = 0
        """Processes so far."""

    async def run(self, constraint: Constraint) -> None:
        """Returns when the constraint compiles within the limits; raises `Refusal` when it does not."""
        if self._num_inside >= self._num_inside_max:
            raise Overloaded(
                "too many grammars wait to be compiled; try again later",
                reason=Reason.QUEUE_FULL,
                retry_after_s=_RETRY_AFTER_S,
            )
        self._num_inside += 1
        try:
            async with self._places:
                await self._run(constraint)
        finally:
            self._num_inside -= 1

    async def close(self) -> None:
        """Ends all processes."""
        for process in [*self._idle, *self._busy]:
            await process.kill()
        self._idle.clear()

    async def _run(self, constraint: Constraint) -> None:
        process = self._idle.pop() if self._idle else await self._start()
        self._busy.add(process)
        try:
            async with asyncio.timeout(self._limits.compile_s_max + _LATE_S_MAX):
                verdict = await process.ask(
                    {"kind": constraint.kind.value, "texts": constraint.texts}
                )
        except (OSError, EOFError, TimeoutError):
            raise self._killed(await process.kill()) from None
        except BaseException:
            await process.kill()
            raise
        finally:
            self._busy.discard(process)
        if process.num_asked < _TRIALS_PER_PROCESS:
            self._idle.append(process)
        else:
            await process.kill()
        if verdict["reason"] is not None:
            raise Refusal(Reason(verdict["reason"]), verdict["message"])

    def _killed(self, code: int) -> Refusal:
        limits = self._limits
        log.warning("grammar.trial_killed", code=code)
        if code in (-signal.SIGALRM, -signal.SIGKILL):
            return too_large(
                f"it takes more than {limits.compile_s_max:g} s to compile (setting worker.grammar_compile_s_max)",
                is_late=True,
            )
        return too_large(
            f"it takes more than {limits.memory_mib_max} MiB to compile (setting worker.grammar_memory_mib_max)"
        )

    async def _start(self) -> _Process:
        self.num_started += 1
        try:
            process = await _Process.start()
        except OSError as error:
            log.exception("grammar.trial_not_started")
            raise Internal("no process for compiling grammars could be started") from error
        try:
            hello = await asyncio.to_thread(self._hello)
            async with asyncio.timeout(_START_S_MAX):
                await process.exchange(hello)
        except (OSError, EOFError, TimeoutError) as error:
            log.exception("grammar.trial_not_started", code=await process.kill())
            raise Internal("no process for compiling grammars could be started") from error
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
