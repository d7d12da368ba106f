"""Ends a stream on which nothing came for too long; who keeps time is told from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, final

from lepton_client.silence import Silence

__all__ = ["StartTimer", "Timer", "Watch"]


class Timer(Protocol):
    """Something that will happen."""

    def cancel(self) -> None:
        """It will not."""
        ...


class _Call(Protocol):
    def cancel(self) -> object: ...


StartTimer = Callable[[float, Callable[[], None]], Timer]
"""Seconds, and what to call after them, once."""


@final
class Watch:
    """Cancels `call` when `silence` is over. `close` ends the watch, not the call."""

    def __init__(self, call: _Call, silence: Silence, start_timer: StartTimer) -> None:
        self._call = call
        self._silence = silence
        self._start_timer = start_timer
        self._timer = start_timer(silence.silence_s, self._look)

    def close(self) -> None:
        """Looks no more."""
        self._timer.cancel()

    def _look(self) -> None:
        left_s = self._silence.left_s()
        if left_s <= 0:
            self._call.cancel()
        else:
            self._timer = self._start_timer(left_s, self._look)
