"""Signs of life of one worker, read from its load stream.

                     report                  silent, or its step late, for `suspect_s`
    CONNECTING ─────────────────> READY ───────────────────────────────────────────────> SUSPECT
        │                        ^     ^─────────── a report, with progress ───────────────┘ │
        │ the stream breaks      │ report                                                    │ for `abandon_s`
        └─────────────────────> LOST <───────────────────────────────────────────────────────┘
                                  ^──────── the stream breaks, in whatever state

The calls of a worker are given up after `abandon_s` of one and the same trouble. A *late step*: the step counter stands
still although work is there and the end that the worker itself expected has passed; its event loop may answer all the
while. Workers whose steps take longer than 100 ms get proportionally more time, and before its first step nothing is
expected of a worker.

Nothing here is anybody's fault but the worker's only if the router was awake: time that it slept itself is excused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from router.core.endpoint import EndpointState, Load

__all__ = ["Patience", "Pulse"]

_STEP_MS_USUAL: Final = 100.0
"""What engines aim at for the longest step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long trouble may last, seconds."""

    suspect_s: float = 1.0
    """Then nothing new goes there."""
    abandon_s: float = 2.0
    """Then its calls are given up."""
    silence_s: float = 0.0
    """A call that gets nothing from a worker without work for so long is given up; 0: none is."""


@final
class Pulse:
    """Times are on the router's clock, seconds."""

    __slots__ = (
        "_broken_at",
        "_due_at",
        "_patience",
        "_step",
        "_stretch",
        "heard_at",
        "idle_since",
        "stepped_at",
        "told_at",
    )

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._broken_at: float | None = None
        self._step = -1
        self._due_at: float | None = None
        """When the step that stands still should have ended; None while nothing is expected."""
        self._stretch = 1.0
        self.heard_at: float | None = None
        """Since when it is silent: of the last report, but for excuses; None before the first."""
        self.told_at = 0.0
        """Of the last report."""
        self.idle_since: float | None = None
        """Since when every report says that nothing runs and nothing waits; None while something does."""
        self.stepped_at = 0.0
        """Of the last report in which the step counter had moved."""

    def heard(self, load: Load, now: float) -> None:
        """A report came."""
        self.heard_at = self.told_at = now
        self._broken_at = None
        moved = load.step != self._step
        if moved:
            self._step = load.step
            self.stepped_at = now
        is_busy = load.step_ends_in_ms is not None or load.running > 0 or load.waiting > 0
        if is_busy:
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = now
        if not is_busy or load.step_ms <= 0:
            self._due_at = None
        elif moved or self._due_at is None or load.step_ends_in_ms:
            self._due_at = now + (load.step_ends_in_ms or 0) / 1000
        self._stretch = max(1.0, load.step_ms / _STEP_MS_USUAL)

    def broke(self, now: float) -> None:
        """The stream broke: the connection, or the process behind it, is gone."""
        if self._broken_at is None:
            self._broken_at = now
        self.idle_since = None

    def excuse(self, seconds: float, now: float) -> None:
        """The router slept for so long and could not have noticed anything."""
        if self.heard_at is not None:
            self.heard_at = min(now, self.heard_at + seconds)
        if self._broken_at is not None:
            self._broken_at = min(now, self._broken_at + seconds)
        if self._due_at is not None:
            self._due_at += seconds
        if self.idle_since is not None:
            self.idle_since = min(now, self.idle_since + seconds)

    @property
    def is_broken(self) -> bool:
        """Whether the stream broke and has not spoken since."""
        return self._broken_at is not None

    def is_quiet(self, now: float) -> bool:
        """Whether it is in trouble although nothing broke."""
        return (
            not self.is_broken
            and self.heard_at is not None
            and self._trouble_s(now) >= self._patience.suspect_s
        )

    def state(self, now: float, *, frozen: bool = False) -> EndpointState:
        """CONNECTING, READY, SUSPECT or LOST; while `frozen` nobody is LOST for being quiet."""
        if self.is_broken:
            return EndpointState.LOST
        if self.heard_at is None:
            return EndpointState.CONNECTING
        trouble_s = self._trouble_s(now)
        if trouble_s >= self._patience.abandon_s and not frozen:
            return EndpointState.LOST
        return (
            EndpointState.SUSPECT if trouble_s >= self._patience.suspect_s else EndpointState.READY
        )

    def is_hopeless(self, now: float) -> bool:
        """Whether the trouble has lasted so long that calls should be given up."""
        return self._trouble_s(now) >= self._patience.abandon_s

    def why(self, now: float) -> str:
        """What the trouble is, for people; "" without one."""
        if self._broken_at is not None:
            return "its load stream broke"
        if self.heard_at is None:
            return ""
        silent_s = now - self.heard_at
        if silent_s >= self._patience.suspect_s:
            return f"silent for {self._patience.suspect_s:g} s"
        if self._late_s(now) >= self._patience.suspect_s:
            return f"step {self._step} does not end"
        return ""

    def _trouble_s(self, now: float) -> float:
        if self._broken_at is not None:
            return now - self._broken_at
        if self.heard_at is None:
            return 0.0
        return max(now - self.heard_at, self._late_s(now))

    def _late_s(self, now: float) -> float:
        return 0.0 if self._due_at is None else (now - self._due_at) / self._stretch
