"""A tool that runs to its end and writes to a log file."""

from __future__ import annotations

import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

__all__ = ["run_logged"]

_CHARACTERS_MAX: Final = 300
"""Of a tool's last line, repeated in an error."""


def run_logged(
    command: Sequence[str],
    *,
    log: Path,
    cwd: Path,
    seconds_max: float,
    env: Mapping[str, str] | None = None,
) -> str | None:
    """Runs in `cwd`, which holds nothing that Python could take for a module; appends to `log` what the tool writes.

    Returns None when it ended well, else how it ended, for people. An interrupt of ours kills the tool.
    """
    try:
        with log.open("ab") as said:
            code = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=env,
                timeout=seconds_max,
                check=False,
            ).returncode
    except subprocess.TimeoutExpired:
        return f"it took longer than {seconds_max:g} s (convert.step_s_max)"
    if code < 0:
        return f"killed by signal {-code}; is there enough memory?"
    return _last_line(log) if code else None


def _last_line(log: Path) -> str:
    with log.open(encoding="utf-8", errors="replace") as file:
        lines = deque((line.strip() for line in file if line.strip()), maxlen=1)
    return lines[0][:_CHARACTERS_MAX] if lines else "it said nothing"
