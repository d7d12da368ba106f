"""The circuit breaker of one worker.

             trip                    `until` has come
    CLOSED ────────> OPEN ─────────────────────────────> ASKING (one probe is on its way)
       ^              ^ ^───────── probe failed: for longer ──────────┘ │
       └── pardon ────┘                                                 │
       └─────────────────────── probe passed ───────────────────────────┘

The n-th ejection in a row lasts half to all of `n * ejection_s`, by chance (so that many do not come back at once), at
most `ejection_s_max`. A row ends when a worker has been back for as long as its last ejection, or `ejection_s`.
"""

from __future__ import annotations

from random import Random
from typing import final

__all__ = ["Breaker"]


@final
class Breaker:
    """Times are on the caller's clock, seconds."""

    __slots__ = (
        "_base_s",
        "_closed_at",
        "_is_asking",
        "_lasted_s",
        "_most_s",
        "_random",
        "times",
        "until",
        "why",
    )

    def __init__(self, *, ejection_s: float, ejection_s_max: float, random: Random) -> None:
        self._base_s = ejection_s
        self._most_s = ejection_s_max
        self._random = random
        self._closed_at: float | None = None
        self._lasted_s = 0.0
        self._is_asking = False
        self.times = 0
        """Ejections in a row."""
        self.until = 0.0
        """While open: when a probe may be sent."""
        self.why = ""
        """Why it is open; "" while closed."""

    @property
    def is_open(self) -> bool:
        """Whether no call may go there."""
        return bool(self.why)

    def trip(self, why: str, now: float) -> float:
        """Opens it, or keeps it open; returns for how long, seconds."""
        been_back_s = None if self._closed_at is None else now - self._closed_at
        if been_back_s is not None and been_back_s >= max(self._lasted_s, self._base_s):
            self.times = 0
        self.times += 1
        most_s = min(self._base_s * self.times, self._most_s)
        self._lasted_s = most_s / 2 + self._random.random() * most_s / 2
        self.until, self.why = now + self._lasted_s, why
        self._closed_at, self._is_asking = None, False
        return self._lasted_s

    def may_ask(self, now: float) -> bool:
        """Whether a probe is due; then it counts as sent, and `close` or `trip` must follow."""
        if not self.is_open or self._is_asking or now < self.until:
            return False
        self._is_asking = True
        return True

    def close(self, now: float) -> None:
        """The probe passed, or it is pardoned."""
        self.why = ""
        self._closed_at, self._is_asking = now, False
