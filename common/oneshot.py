"""A process that is asked one thing: one JSON object on stdout, or the typed error that the asked one raised.

For work that may run out of memory, or that only another package may do. What the process writes beside its answer goes
to a log file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from common import errors
from common.errors import Internal, LeptonError, Reason, Unavailable

__all__ = ["answer", "ask"]

_ANSWERED: Final = 0
_REFUSED: Final = 2
_CRASHED: Final = 1


def answer(handle: Callable[[], Mapping[str, Any]]) -> int:
    """Writes what `handle` returns, or the `LeptonError` that it raises, to stdout; returns the exit code.

    While `handle` runs, what libraries print goes to stderr: stdout belongs to the answer, which is its last line.
    """
    stdout = os.dup(1)
    os.dup2(2, 1)
    code, record = _ANSWERED, {}
    try:
        record = dict(handle())
    except LeptonError as error:
        code = _REFUSED
        record = {
            "error": {
                "class": type(error).__name__,
                "reason": error.reason.value,
                "message": error.message,
                "field": error.field,
            }
        }
    except Exception:
        traceback.print_exc()
        code = _CRASHED
    sys.stdout.flush()
    if code != _CRASHED:
        with os.fdopen(stdout, "w", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return code


def ask(
    command: Sequence[str], *, what: str, log: Path, env: Mapping[str, str], seconds_max: float
) -> dict[str, Any]:
    """Runs `command` to its end and returns its answer; a process that is interrupted with us is killed.

    Raises the error that the process told, or `Unavailable(PROCESS_FAILED)` with `what` and `log` when it told none
    or took longer than `seconds_max`.
    """
    try:
        with log.open("ab") as said:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                env=dict(env),
                timeout=seconds_max,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise Unavailable(
            f"{what}: took longer than {seconds_max:g} s ({log})", reason=Reason.PROCESS_FAILED
        ) from None
    if done.returncode not in (_ANSWERED, _REFUSED):
        how = f"killed by signal {-done.returncode}" if done.returncode < 0 else "crashed"
        hint = "; is there enough memory?" if done.returncode < 0 else ""
        raise Unavailable(f"{what}: {how}{hint} ({log})", reason=Reason.PROCESS_FAILED)
    try:
        record = json.loads(done.stdout.decode("utf-8").splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise Unavailable(
            f"{what}: gave no answer ({log})", reason=Reason.PROCESS_FAILED
        ) from error
    if "error" in record:
        raise _error_of(record["error"])
    found: dict[str, Any] = record
    return found


def _error_of(record: Mapping[str, Any]) -> LeptonError:
    named = getattr(errors, str(record["class"]), Internal)
    error: LeptonError = named(
        record["message"], reason=Reason(record["reason"]), field=record["field"]
    )
    return error
