"""Shell lines of the docs, so that a test can run what a reader would paste."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["shell_commands"]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_STARTS = ("make ", ".venv/bin/", ".tools/", "docker ", "lepton ", "echo ", "curl ", "export ")


def shell_commands(page: Path) -> list[str]:
    """Every command of the fenced blocks, continuation lines joined, comments cut.

    A block counts as shell when its first line starts like a command of ours; others are output or code.
    """
    commands: list[str] = []
    for _, body in _FENCE.findall(page.read_text("utf-8")):
        if body.lstrip().startswith(_STARTS):
            commands.extend(_split(body))
    return commands


def _split(body: str) -> list[str]:
    """Lines, where a trailing backslash or an open single quote carries on to the next."""
    commands: list[str] = []
    pending = ""
    for line in body.splitlines():
        pending = f"{pending}\n{line}" if pending else line
        if pending.endswith("\\") or pending.count("'") % 2:
            continue
        command = re.sub(r"\s+# .*$", "", pending).strip()
        if command:
            commands.append(command)
        pending = ""
    return commands
