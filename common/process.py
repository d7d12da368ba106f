"""The frame of every process: flags, settings, signals, exit codes.

0   served and drained (SIGTERM or SIGINT)
1   crashed, or was told to stop a second time before it had drained
2   refused to start: a setting, a model, a port, an id; one line "error: … (REASON)" on stderr
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import uvloop

from common.errors import BadModel, Conflict, LeptonError, Reason
from common.logs import escape, get_logger
from common.settings import ENV_PREFIX, Section, load, parse_flags

__all__ = ["CRASHED", "OK", "REFUSED", "ProcessSpec", "StopRequest", "run_process"]

OK: Final = 0
CRASHED: Final = 1
REFUSED: Final = 2

CONFIG_ENV: Final = "LEPTON_CONFIG"
"""Environment variable with the path of the settings file."""

_HELP_WIDTH: Final = 100

log = get_logger(__name__)


@dataclass(slots=True)
class StopRequest:
    """Whether somebody asked this process to end."""

    requested: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once: drain and return."""
    grace_s: float | None = None
    """Longest time for running calls, seconds, when whoever asked said one."""

    def request(self, grace_s: float | None = None) -> None:
        """Asks for the end. Only the first call counts."""
        if not self.requested.is_set():
            self.grace_s = grace_s
            self.requested.set()


Serve: TypeAlias = Callable[[Mapping[str, Any], StopRequest], Awaitable[None]]
"""Settings by section and the stop request → returns when the process has drained and given everything back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """What one kind of process is."""

    program: str
    """Name of the command, for example "lepton-worker"."""
    about: str
    """What it does, one sentence."""
    own: str
    """Section whose flags need no prefix."""
    sections: Mapping[str, type[Section]]
    """Every section that it reads."""
    serve: Serve


def run_process(
    spec: ProcessSpec,
    arguments: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
) -> int:
    """Runs the process to its end and returns its exit code. `arguments` are `sys.argv[1:]` unless given."""
    arguments = sys.argv[1:] if arguments is None else arguments
    env = os.environ if env is None else env
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(_help(spec))
        return OK
    try:
        settings = _load(spec, arguments, env)
        # libuv's loop took 14 to 18 % less of the processor for a relayed token than Python's own, flooded.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(spec, settings))
    except BaseExceptionGroup as group:
        return _failed(_only(group))
    except Exception as error:
        return _failed(error)


async def _run(spec: ProcessSpec, settings: Mapping[str, Any]) -> int:
    """First signal: drain. Second: cancel what is left. Third: leave without a word."""
    stop = StopRequest()
    loop = asyncio.get_running_loop()
    serving = asyncio.current_task()
    num_signals = 0

    def on_signal() -> None:
        nonlocal num_signals
        num_signals += 1
        if num_signals == 1:
            log.info("process.stopping", hint="a second signal stops at once")
            stop.request()
        elif num_signals == 2 and serving is not None:
            serving.cancel()
        else:
            os._exit(CRASHED)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        await spec.serve(settings, stop)
    except asyncio.CancelledError:
        log.warning("process.stopped_at_once")
        return CRASHED
    log.info("process.stopped")
    return OK


def _load(spec: ProcessSpec, arguments: Sequence[str], env: Mapping[str, str]) -> dict[str, Any]:
    flags = parse_flags(arguments, own=spec.own)
    config = flags.pop((spec.own, "config"), None) or env.get(CONFIG_ENV)
    return load(spec.sections, file=Path(config) if config else None, env=env, flags=flags)


def _failed(error: BaseException) -> int:
    if isinstance(error, Conflict | BadModel):
        sys.stderr.write(f"error: {_one_line(error.message)} ({error.reason})\n")
        return REFUSED
    reason = error.reason if isinstance(error, LeptonError) else Reason.INTERNAL
    try:
        raise error
    except BaseException:
        log.exception("process.crashed", reason=reason.value)
    sys.stderr.write(f"error: {type(error).__name__}: {_one_line(str(error))}\n")
    return CRASHED


def _one_line(text: str) -> str:
    return escape(" ".join(text.split()))


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error of a task group, else the group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _help(spec: ProcessSpec) -> str:
    """Every flag with what its field's docstring says."""
    lines = [
        f"Usage: {spec.program} [--KEY VALUE]…",
        "",
        *textwrap.wrap(spec.about, _HELP_WIDTH),
        "",
        f"Each key can also stand in a TOML file (--config FILE or {CONFIG_ENV}) or in the environment",
        f"({ENV_PREFIX}<SECTION>_<KEY>). Flags weigh more than the environment, the environment more than the file.",
    ]
    for name, section in spec.sections.items():
        lines += ["", f"[{name}]"]
        for key, info in section.model_fields.items():
            flag = key.replace("_", "-") if name == spec.own else f"{name}.{key.replace('_', '-')}"
            default = "required" if info.is_required() else f"default {_shown(info.get_default())}"
            lines.append(f"  --{flag}  ({default})")
            lines += textwrap.wrap(
                info.description or "",
                _HELP_WIDTH,
                initial_indent="      ",
                subsequent_indent="      ",
            )
    return "\n".join(lines) + "\n"


def _shown(default: object) -> str:
    text = str(default)
    return text if text not in {"", "()", "None"} else "none"
