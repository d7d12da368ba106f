"""`lepton-router`: read settings, serve until SIGTERM or SIGINT, drain, leave.

Exit codes: 0 after a drain, 2 for a start that was refused (one line on stderr), 1 for a crash. A second signal cuts
the drain short.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from common.errors import LeptonError
from common.logs import get_logger, setup_logs
from common.settings import load, parse_flags
from router.app import SECTIONS, SERVICE_NAME, Config, Router, running

__all__ = ["main"]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_CONFIG_FLAG: Final = ("router", "config")
_CONFIG_VARIABLE: Final = "LEPTON_CONFIG"

log = get_logger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script; `arguments` default to those of the process."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"--help", "-h"} & set(arguments):
        sys.stdout.write(_help())
        return 0
    try:
        asyncio.run(_serve(_read(arguments)))
    except LeptonError as error:
        sys.stderr.write(f"error: {error.message} ({error.reason})\n")
        return 2
    return 0


def _read(arguments: Sequence[str]) -> Config:
    """All settings; raises `Conflict(SETTING_INVALID)` naming the one that is wrong."""
    flags = parse_flags(arguments, own="router")
    file = flags.pop(_CONFIG_FLAG, None) or os.environ.get(_CONFIG_VARIABLE)
    sections = load(SECTIONS, file=Path(file) if file else None, env=os.environ, flags=flags)
    return Config(**sections).with_id()


async def _serve(config: Config) -> None:
    """Until a signal, then until drained."""
    setup_logs(config.telemetry, service=SERVICE_NAME, instance_id=config.router.id)
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, lambda: (hurry if stop.is_set() else stop).set())
    async with running(config, env=os.environ) as router:
        log.info(
            "process.ready",
            address=f"{config.router.host}:{router.port}",
            metrics_address=f"{config.router.metrics_host}:{router.metrics_port}",
            router_id=router.id,
        )
        await stop.wait()
        await _drain(router, hurry)
    log.info("process.stopped", router_id=router.id)


async def _drain(router: Router, hurry: asyncio.Event) -> None:
    """Until drained or hurried."""
    async with asyncio.TaskGroup() as group:
        drained = group.create_task(router.drain())
        hurried = group.create_task(hurry.wait())
        await asyncio.wait({drained, hurried}, return_when=asyncio.FIRST_COMPLETED)
        drained.cancel()
        hurried.cancel()


def _help() -> str:
    """Every setting with its meaning and default."""
    lines = [
        "usage: lepton-router [--key value] [--section.key value] [--config FILE]",
        "",
        "Settings come from flags, then LEPTON_<SECTION>_<KEY> variables, then a TOML file.",
    ]
    for section, cls in SECTIONS.items():
        lines += ["", f"[{section}]"]
        for key, field in cls.model_fields.items():
            prefix = "" if section == "router" else f"{section}."
            meaning = " ".join((field.description or "").split())
            lines += [f"  --{prefix}{key.replace('_', '-')}  (default: {_shown(field.default)})"]
            lines += [f"      {meaning}"]
    return "\n".join(lines) + "\n"


def _shown(default: object) -> str:
    if default is None or default in ("", ()) or "SecretStr" in type(default).__name__:
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)


if __name__ == "__main__":
    sys.exit(main())
