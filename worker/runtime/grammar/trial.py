"""The process in which grammars are tried out: it may hang, fill its memory or die without harm to anyone.

stdin and stdout carry frames, a length (4 bytes, big-endian) and JSON:

    in    once {"tokens", "control_ids", "eos_ids", "limits"}, then {"kind", "texts"} each
    out   once {}, then {"reason", "message"} each; both null when the grammar has passed

A trial that takes too long is ended by the alarm of its own process, so that it ends even when its parent is gone.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from typing import Any, BinaryIO, Final

from llguidance import LLTokenizer

from worker.engine.grammar import Constraint, ConstraintKind
from worker.runtime.grammar.compiled import compile_constraint
from worker.runtime.grammar.limits import GrammarLimits
from worker.runtime.grammar.refusal import Refusal, invalid, too_large
from worker.runtime.grammar.tokens import TokenTable, open_tokens

__all__ = ["LENGTH_BYTES", "frame", "main"]

LENGTH_BYTES: Final = 4
_STACK_BYTES: Final = 1 << 20
"""Half of the smallest stack that a thread of the worker has: what does not overflow here does not there."""


def frame(value: Any) -> bytes:
    """A value as it crosses the pipe."""
    payload = json.dumps(value).encode()
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


def main(reader: BinaryIO, writer: BinaryIO) -> None:
    """Answers until the parent closes the pipe."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C in a terminal: the worker decides the order
    hello = _read(reader)
    if hello is None:
        return
    limits = GrammarLimits(**hello["limits"])
    tokens = open_tokens(
        TokenTable(
            token_bytes=tuple(token.encode("latin-1") for token in hello["tokens"]),
            control_ids=tuple(hello["control_ids"]),
            eos_ids=tuple(hello["eos_ids"]),
        )
    )
    _bound(limits.memory_mib_max << 20)
    writer.write(frame({}))
    writer.flush()
    while (asked := _read(reader)) is not None:
        constraint = Constraint(ConstraintKind(asked["kind"]), tuple(asked["texts"]))
        signal.setitimer(signal.ITIMER_REAL, limits.compile_s_max)
        refusal = _try_out(tokens, constraint, limits)
        signal.setitimer(signal.ITIMER_REAL, 0)
        reason, message = (refusal.reason.value, refusal.message) if refusal else (None, None)
        writer.write(frame({"reason": reason, "message": message}))
        writer.flush()


def _try_out(tokens: LLTokenizer, constraint: Constraint, limits: GrammarLimits) -> Refusal | None:
    try:
        compile_constraint(tokens, constraint, limits)
    except Refusal as refusal:
        return refusal
    except (MemoryError, RecursionError):
        return too_large("it needs too much memory, or is nested too deeply")
    except Exception as error:  # whatever it is, it would happen in the worker as well
        return invalid(f"it cannot be compiled: {error}")
    return None


def _read(reader: BinaryIO) -> Any:
    head = reader.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return None
    return json.loads(reader.read(int.from_bytes(head, "big")))


def _bound(more_bytes: int) -> None:
    """Memory up to what is there now and `more_bytes`; a short stack; no core dumps."""
    with open("/proc/self/statm") as file:  # noqa: PTH123 - pathlib is not worth its import here
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more_bytes, now + more_bytes))
    resource.setrlimit(resource.RLIMIT_STACK, (_STACK_BYTES, _STACK_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
