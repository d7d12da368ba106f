"""How many threads this process may really use: affinity and control group, not the size of the machine."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

__all__ = ["available_cores"]

CGROUP: Final = Path("/sys/fs/cgroup")


def available_cores(cgroup: Path = CGROUP) -> int:
    """Cores, at least 1. A quota of 1.5 cores counts as 1: a second thread would only be throttled."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quota = _quota(cgroup)
    if quota is not None:
        cores = min(cores, math.floor(quota))
    return max(1, cores)


def _quota(cgroup: Path) -> float | None:
    """Cores' worth of time that the control group allows (version 2, then version 1); None without a limit."""
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota = int((cgroup / "cpu" / "cpu.cfs_quota_us").read_text())
        return (
            quota / int((cgroup / "cpu" / "cpu.cfs_period_us").read_text()) if quota > 0 else None
        )
    except (OSError, ValueError, ZeroDivisionError):
        return None
