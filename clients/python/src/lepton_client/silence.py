"""How long the other side of a stream has said nothing to whoever waits for it. Pure but for the clock handed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from lepton_client.errors import LeptonError
from lepton_client.status import error_of

__all__ = ["Silence"]


@final
class Silence:
    """One for a stream; looked at by one timer, however many messages come."""

    def __init__(self, silence_s: float, now: Callable[[], float]) -> None:
        self.silence_s: Final = silence_s
        self._now: Final = now
        self._since: float | None = None
        self.is_over = False
        """It lasted too long, and the stream was given up."""

    def begins(self) -> None:
        """Somebody waits for a message."""
        self._since = self._now()

    def ends(self) -> None:
        """Who reads is busy with what came: that is no silence of the other side."""
        self._since = None

    def left_s(self) -> float:
        """Until it lasts too long; when that is 0 or less, it is over."""
        since = self._since  # another thread may change it
        left_s = self.silence_s if since is None else since + self.silence_s - self._now()
        self.is_over = left_s <= 0
        return left_s

    @property
    def error(self) -> LeptonError:
        """As that of a lost connection."""
        return error_of("UNAVAILABLE", f"silent for {self.silence_s:g} s", ())
