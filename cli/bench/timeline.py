"""What went on over time, in at most `BINS_MAX` bins: they grow wider as the run grows longer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

__all__ = ["BINS_MAX", "Bin", "Timeline"]

BINS_MAX: Final = 240
_WIDTH_S_MIN: Final = 0.1


@dataclass(slots=True)
class Bin:
    """One stretch of time."""

    in_flight_max: int = 0
    """Most requests that were sent and had not ended."""
    tokens: int = 0
    """That arrived."""
    failed: int = 0
    """Requests that ended in an error."""


@final
class Timeline:
    """Times are seconds since the begin; whoever adds does so in the order of time."""

    def __init__(self) -> None:
        self.width_s = _WIDTH_S_MIN
        self.bins: list[Bin] = []
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """Requests that were sent and have not ended."""
        return self._in_flight

    @property
    def in_flight_max(self) -> int:
        """Most of them at any time."""
        return max((one.in_flight_max for one in self.bins), default=0)

    def sent(self, at_s: float) -> None:
        """A request left."""
        self._in_flight += 1
        self._bin(at_s)

    def received(self, at_s: float, num_tokens: int) -> None:
        """Tokens came."""
        self._bin(at_s).tokens += num_tokens

    def ended(self, at_s: float, *, failed: bool) -> None:
        """A request that had left came to its end."""
        self._bin(at_s).failed += failed
        self._in_flight -= 1

    def refused(self, at_s: float) -> None:
        """A request failed without having left."""
        self._bin(at_s).failed += 1

    def _bin(self, at_s: float) -> Bin:
        while at_s >= BINS_MAX * self.width_s:
            self._widen()
        index = int(at_s / self.width_s)
        while len(self.bins) <= index:
            # What nobody reported about is as it was before.
            self.bins.append(Bin(in_flight_max=self._in_flight))
        one = self.bins[index]
        one.in_flight_max = max(one.in_flight_max, self._in_flight)
        return one

    def _widen(self) -> None:
        self.width_s *= 2
        pairs = [self.bins[at : at + 2] for at in range(0, len(self.bins), 2)]
        self.bins = [
            Bin(
                in_flight_max=max(one.in_flight_max for one in pair),
                tokens=sum(one.tokens for one in pair),
                failed=sum(one.failed for one in pair),
            )
            for pair in pairs
        ]
