"""How a command ends: one readable line and an exit code, never a stack trace for something that can happen.

0    it worked
1    the call failed: nobody answers, overloaded, too late, our fault
2    the command or the request is wrong: usage, a refused setting, an unknown model
130  interrupted (Ctrl-C)
"""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from typing import Any, Final

import typer

from cli.screen import err, printable, write_json
from common.errors import (
    BadModel,
    Conflict,
    Forbidden,
    InvalidRequest,
    LeptonError,
    NotFound,
    Reason,
    Unsupported,
)

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "WRONG",
    "error_record",
    "exit_code",
    "hint",
    "interruptible",
    "reported",
    "show_error",
]

FAILED: Final = 1
WRONG: Final = 2
INTERRUPTED: Final = 130

_WRONG: Final = (BadModel, Conflict, Forbidden, InvalidRequest, NotFound, Unsupported)

_HINTS: Final = {
    Reason.UNREACHABLE: "start a cluster with `lepton up`, or name one with --address",
    Reason.NO_WORKER: "`lepton ps` shows the workers",
    Reason.MODEL_NOT_FOUND: "`lepton models` lists what can be asked",
    Reason.MODEL_AMBIGUOUS: "choose one with --model",
    Reason.CHAT_TEMPLATE_REFUSED: "a model without a chat template takes plain text: --raw",
    Reason.DEADLINE_EXCEEDED: "allow more time with --timeout, or ask for less with --max-tokens",
    Reason.PROVIDER_UNAVAILABLE: "`lepton doctor` shows what is installed",
    Reason.TRACE_NOT_FOUND: "spans take a moment; with OTEL_EXPORTER_OTLP_ENDPOINT set they go to the collector",
    Reason.INTERNAL: "the logs of the process have the details",
}


def exit_code(error: LeptonError) -> int:
    """2 for what the caller must change, else 1."""
    return WRONG if isinstance(error, _WRONG) else FAILED


def hint(error: LeptonError) -> str | None:
    """What to do next, where one sentence can say it."""
    if error.retry_after_s is not None:
        return f"try again in {error.retry_after_s:g} s"
    return _HINTS.get(error.reason)


def error_record(error: LeptonError) -> dict[str, Any]:
    """The error for `--json`."""
    record: dict[str, Any] = {"reason": error.reason.value, "message": error.message}
    if error.field:
        record["field"] = error.field
    if (what := hint(error)) is not None:
        record["hint"] = what
    return {"error": record}


@contextlib.contextmanager
def reported(*, as_json: bool) -> Iterator[None]:
    """Shows an operating error of the block and ends the command with the code that says what kind it was."""
    try:
        yield
    except LeptonError as error:
        if as_json:
            write_json(error_record(error))
        else:
            show_error(error)
        raise typer.Exit(exit_code(error)) from None
    except BrokenPipeError:
        raise  # whoever read our output has gone; the entry point ends quietly
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        message = f"{error.strerror or error}{where}"
        if as_json:
            write_json({"error": {"reason": "OS_ERROR", "message": message}})
        else:
            _line(message, "OS_ERROR", None)
        raise typer.Exit(FAILED) from None


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the command with 130, after the block has cleared up behind itself."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except (KeyboardInterrupt, typer.Abort):  # the second at a question
        raise typer.Exit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def show_error(error: LeptonError) -> None:
    """`error: what, where (REASON)` and, below, what to do."""
    _line(error.message, error.reason.value, hint(error))


def _line(message: str, reason: str, what_to_do: str | None) -> None:
    # json.dumps escapes whatever a peer put into its message; the quotes around are dropped.
    safe = json.dumps(message, ensure_ascii=False)[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    safe = printable(safe)  # the other half of the control characters
    console = err()
    console.print(f"[bold red]error:[/] {_plain(safe)} [dim]({reason})[/]", soft_wrap=True)
    if what_to_do:
        console.print(f"       {_plain(what_to_do)}", style="dim", soft_wrap=True)


def _plain(text: str) -> str:
    return text.replace("[", "\\[")
