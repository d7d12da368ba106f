"""What a process holds, seen from outside. Linux."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Holdings", "held_by"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """At one moment."""

    rss: int
    """Bytes resident, those of mapped files included."""
    files: int
    """Open file descriptors."""
    threads: int


def held_by(pid: int) -> Holdings:
    """Raises OSError when the process has gone."""
    process = Path("/proc") / str(pid)
    lines = dict(
        line.split(":\t", 1)
        for line in (process / "status").read_text("ascii").splitlines()
        if ":\t" in line
    )
    return Holdings(
        rss=int(lines["VmRSS"].split()[0]) << 10,
        files=len(list((process / "fd").iterdir())),
        threads=int(lines["Threads"]),
    )
