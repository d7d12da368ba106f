"""How many processor cores there are for us, and how workers share them."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Cores", "find_cores", "share"]

_CGROUP: Final = Path("/sys/fs/cgroup")
_SPARE_FROM: Final = 6
"""From that many cores on, one is left to router and registry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """What this process may use."""

    allowed: int
    """Cores that the scheduler lets us run on (affinity)."""
    quota: float | None
    """CPU seconds per second that the container may use; None: no limit."""

    @property
    def usable(self) -> int:
        """Threads that can run at the same time; at least 1."""
        if self.quota is None:
            return self.allowed
        return max(1, min(self.allowed, math.floor(self.quota + 0.01)))


def find_cores(cgroup: Path = _CGROUP) -> Cores:
    """Reads affinity and the cgroup's quota (version 2, then 1)."""
    return Cores(allowed=len(os.sched_getaffinity(0)), quota=_quota(cgroup))


def share(usable: int, workers: int) -> tuple[int, ...]:
    """Threads for each of `workers`: as even as possible, never 0, together at most `usable` where that is possible."""
    left = usable - 1 if usable >= _SPARE_FROM else usable
    each, more = divmod(left, workers)
    return tuple(max(1, each + (index < more)) for index in range(workers))


def _quota(cgroup: Path) -> float | None:
    v2 = _read(cgroup / "cpu.max")
    if v2:
        quota, _, period = v2.partition(" ")
        return None if quota == "max" else _ratio(quota, period)
    v1 = _read(cgroup / "cpu" / "cpu.cfs_quota_us")
    if v1 and not v1.startswith("-"):
        return _ratio(v1, _read(cgroup / "cpu" / "cpu.cfs_period_us"))
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _ratio(quota: str, period: str) -> float | None:
    try:
        return int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
