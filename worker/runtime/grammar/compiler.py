"""A constraint → a grammar, away from the event loop: first tried out where it can do no harm, then compiled here.

    verdict known? ──no──> trial (another process) ──passed──> a thread: compile ──> LlGrammar
         └───yes: refused again, or ───────────────────────────────^

What is kept is the verdict, not the compiled form: that one grows as it is used (`worker.runtime.grammar.matcher`), and
costs a millisecond. A grammar that has passed takes here the time and the memory that it took in its trial.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeVar, final

from llguidance import LLTokenizer

from common.clock import Clock
from common.errors import Overloaded, Reason, Unavailable, Unsupported
from common.logs import get_logger
from worker.engine.grammar import Constraint
from worker.runtime.grammar.compiled import compile_constraint
from worker.runtime.grammar.limits import GrammarLimits
from worker.runtime.grammar.masks import MaskThread
from worker.runtime.grammar.matcher import LlGrammar
from worker.runtime.grammar.refusal import Refusal
from worker.runtime.grammar.tokens import TokenTable, open_tokens
from worker.runtime.grammar.trials import Trials

__all__ = ["GrammarCompiler"]

_RETRY_AFTER_S: Final = 1.0
_LATE_KNOWN_S: Final = 60.0
"""How long a grammar that took too much time is refused untried, seconds: the machine may have been busy."""

log = get_logger(__name__)

ResultT = TypeVar("ResultT")


class _Verdict(NamedTuple):
    refusal: Refusal | None
    until: float | None
    """On the clock, seconds; None: for good."""


@final
class GrammarCompiler:
    """Implements `worker.tasks.ports.GrammarCompiler`. Used on one event loop.

    Resources: the tokens as llguidance wants them, from the start; a bounded number of processes and as many threads,
    and a thread for masks, from the first constraint on until `close`.
    """

    def __init__(
        self,
        table: TokenTable | None,
        limits: GrammarLimits,
        *,
        processes: int,
        waiting_max: int,
        verdicts_max: int,
        clock: Clock,
    ) -> None:
        """`table` None: this model cannot follow constraints, since it has no end token; `processes` 0: it shall not.

        Holds the GIL for about 2 µs per token: to be made before anything is served.
        """
        self._limits = limits
        self._tokens: LLTokenizer | None = None
        self._why_not = ""
        """Why no constraint can be followed."""
        if processes == 0:
            self._why_not = "they are switched off (setting worker.grammar_processes)"
        elif table is None:
            self._why_not = "the model has no token that ends a sequence"
        else:
            try:
                self._tokens = open_tokens(table)
            except ValueError as error:
                log.warning("grammar.tokens_unusable", error=str(error))
                self._why_not = f"the tokens of the model cannot be used ({error})"
        self._table = table or TokenTable(token_bytes=(), control_ids=(), eos_ids=())
        self._trials = Trials(self._table, limits, processes=processes)
        self._trying: dict[bytes, asyncio.Event] = {}
        """Set when the trial that runs is over."""
        self._num_inside_max = processes + waiting_max
        self._num_inside = 0
        self._verdicts: OrderedDict[bytes, _Verdict] = OrderedDict()
        """Of the grammars that were asked for last."""
        self._verdicts_max = verdicts_max
        self._executor = ThreadPoolExecutor(max(processes, 1), thread_name_prefix="grammar")
        self._masks = MaskThread()
        self._clock = clock
        self._is_closed = False

    async def compile(
        self, constraint: Constraint, *, is_bounded: bool = True
    ) -> tuple[LlGrammar, bool]:
        """The grammar of one request, and whether its verdict was known. Without `is_bounded` it waits however many do.

        Errors: `InvalidRequest` with a reason GRAMMAR_*; `Unsupported(CONSTRAINT_UNSUPPORTED)` when this worker
        cannot follow any; `Overloaded(QUEUE_FULL)`; `Unavailable(DRAINING)` once it is closed. Cancellation: a trial
        is ended, a compilation finished and dropped.
        """
        tokens = self._tokens
        if tokens is None:
            raise Unsupported(
                f"this worker cannot follow a constraint: {self._why_not}",
                reason=Reason.CONSTRAINT_UNSUPPORTED,
                field="constraint",
            )
        if is_bounded and self._num_inside >= self._num_inside_max:
            raise Overloaded(
                "too many constraints wait to be compiled; try again later",
                reason=Reason.QUEUE_FULL,
                retry_after_s=_RETRY_AFTER_S,
            )
        self._num_inside += 1
        try:
            key = _key(constraint)
            verdict = self._known(key)
            was_known = verdict is not None
            verdict = verdict or await self._verdict(key, constraint)
            if verdict.refusal is not None:
                raise verdict.refusal.error(constraint.field)
            return await self._on_thread(self._compile, tokens, constraint), was_known
        except Refusal as refusal:
            raise refusal.error(constraint.field) from None
        finally:
            self._num_inside -= 1

    async def close(self) -> None:
        """Ends threads and processes; who still waits gets `Unavailable(DRAINING)`."""
        self._is_closed = True
        await self._trials.close()
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._masks.close()

    async def _verdict(self, key: bytes, constraint: Constraint) -> _Verdict:
        """Tries it out, unless someone else does already: many requests may bring the same constraint at once."""
        while (other := self._trying.get(key)) is not None:
            await other.wait()
            if (verdict := self._known(key)) is not None:
                return verdict
        mine = self._trying[key] = asyncio.Event()
        try:
            return self._keep(key, await self._trials.run(constraint))
        finally:
            del self._trying[key]
            mine.set()

    def _keep(self, key: bytes, refusal: Refusal | None) -> _Verdict:
        until = self._clock.now() + _LATE_KNOWN_S if refusal and refusal.is_late else None
        verdict = self._verdicts[key] = _Verdict(refusal, until)
        self._verdicts.move_to_end(key)
        if len(self._verdicts) > self._verdicts_max:
            self._verdicts.popitem(last=False)
        return verdict

    def _known(self, key: bytes) -> _Verdict | None:
        verdict = self._verdicts.get(key)
        if verdict is None:
            return None
        if verdict.until is not None and verdict.until <= self._clock.now():
            del self._verdicts[key]
            return None
        self._verdicts.move_to_end(key)
        return verdict

    async def _on_thread(self, job: Callable[..., ResultT], *args: Any) -> ResultT:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, job, *args)
        except RuntimeError as error:
            if not self._is_closed:
                raise
            raise _closed() from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._is_closed and task is not None and not task.cancelling():
                raise _closed() from None
            raise

    def _compile(self, tokens: LLTokenizer, constraint: Constraint) -> LlGrammar:
        """On a thread."""
        start, mask = compile_constraint(tokens, constraint, self._limits)
        return LlGrammar(
            start,
            mask,
            field=constraint.field,
            vocab_size=len(self._table.token_bytes),
            masks=self._masks,
        )


def _key(constraint: Constraint) -> bytes:
    digest = blake2b(constraint.kind.value.encode(), digest_size=16)
    for text in constraint.texts:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.digest()


def _closed() -> Unavailable:
    return Unavailable("this worker is draining; ask another", reason=Reason.DRAINING)
