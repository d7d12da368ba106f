"""Whether and when a process that ended is started again. Pure: exits and times in, decisions out.

refused (exit code 2)                                    give up: as it is, it will refuse again
the `crashes_max`-th end within `crash_window_s`         give up: something is wrong that a restart does not mend
anything else                                            start again after 1, 2, 4, … times `restart_s_first`
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import final

from agent.exits import Exit
from agent.settings import AgentSettings
from common.clock import Clock

__all__ = ["GiveUp", "Restart", "RestartPolicy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """Start it again."""

    delay_s: float
    """After that many seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Leave it."""

    why: str
    """For people; what happened and how often."""
    refused: bool
    """It said itself that it cannot start like this."""


@final
class RestartPolicy:
    """The memory of one process's ends."""

    def __init__(self, settings: AgentSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._ends: deque[float] = deque(maxlen=settings.crashes_max)
        self._in_a_row = 0

    def after(self, ended: Exit, *, lived_s: float) -> Restart | GiveUp:
        """What to do about a process that ended after `lived_s` seconds. Called once per end."""
        if ended.refused:
            return GiveUp(why=ended.told() or "refused to start", refused=True)
        settings, now = self._settings, self._clock.now()
        self._ends.append(now)
        spread_s = now - self._ends[0]
        if len(self._ends) == settings.crashes_max and spread_s <= settings.crash_window_s:
            return GiveUp(why=self._summary(ended, spread_s), refused=False)
        self._in_a_row = 1 if lived_s >= settings.crash_window_s else self._in_a_row + 1
        # The exponent is capped because a float overflows long before anyone stops counting.
        factor = 2.0 ** min(self._in_a_row - 1, 32)
        return Restart(delay_s=min(settings.restart_s_first * factor, settings.restart_s_max))

    def _summary(self, ended: Exit, spread_s: float) -> str:
        often = f"ended {self._settings.crashes_max} times in {max(1, round(spread_s))} s"
        return f"{often}, the last time: {ended.why()}"
