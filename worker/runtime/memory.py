"""How much memory there is, and how what nobody needs any more goes back to the system."""

from __future__ import annotations

import ctypes
import mmap
import re
from pathlib import Path
from typing import Final

from worker.runtime.threads import CGROUP

__all__ = ["available_bytes", "forget_pages", "return_free_memory"]

_DONT_NEED: Final = getattr(mmap, "MADV_DONTNEED", None)


def return_free_memory() -> None:
    """Gives back what the C library holds for the next allocation; nothing where it has no way to."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def forget_pages(memory: mmap.mmap, start: int = 0, end: int | None = None) -> None:
    """Whole pages of the bytes [start, end) become zeros and take no memory until they are written again; nothing where
    the system has no way to.
    """
    end = len(memory) if end is None else end // mmap.PAGESIZE * mmap.PAGESIZE
    start = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    if _DONT_NEED is not None and start < end:
        memory.madvise(_DONT_NEED, start, end - start)


def available_bytes(cgroup: Path = CGROUP, meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """What this process may still take before something is killed: of the machine, and of its control group (version 2,
    then version 1), files that can be dropped not counted as taken. None where nothing says it.
    """
    known = [_machine_bytes(meminfo), _group_bytes(cgroup)]
    return min((number for number in known if number is not None), default=None)


def _machine_bytes(meminfo: Path) -> int | None:
    try:
        found = re.search(r"^MemAvailable:\s*(\d+) kB$", meminfo.read_text("utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) << 10 if found else None


def _group_bytes(cgroup: Path) -> int | None:
    for limit, taken, stat, dropped in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        try:
            most = int((cgroup / limit).read_text())  # "max" is no number: there is no limit
            used = int((cgroup / taken).read_text())
            found = re.search(rf"^{dropped} (\d+)$", (cgroup / stat).read_text(), re.MULTILINE)
        except (OSError, ValueError):
            continue
        return max(0, most - used + (int(found[1]) if found else 0))
    return None
