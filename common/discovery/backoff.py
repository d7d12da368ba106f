"""How long to wait before the next try."""

from __future__ import annotations

import random
from typing import final

from common.clock import Clock

__all__ = ["Backoff"]


@final
class Backoff:
    """Waits that grow twofold from `least_s` to `most_s`, each between half and all of its length, so that many
    clients that lost the same server do not come back in one moment.
    """

    def __init__(self, clock: Clock, *, least_s: float, most_s: float) -> None:
        self._clock = clock
        self._least_s = least_s
        self._most_s = max(least_s, most_s)
        self._next_s = least_s

    def reset(self) -> None:
        """A try succeeded: begin with the least wait again."""
        self._next_s = self._least_s

    async def wait(self) -> None:
        """Sleeps once."""
        length_s = self._next_s
        self._next_s = min(self._most_s, length_s * 2)
        await self._clock.sleep(length_s * random.uniform(0.5, 1.0))
