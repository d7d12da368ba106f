"""A line and the workers that it stands in front of."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, final

from router.core.admission import refusals
from router.core.admission.capacity import rows_for_us
from router.core.admission.limits import AdmissionLimits
from router.core.admission.line import Line
from router.core.endpoint import Endpoint
from router.core.pool import EndpointPool

__all__ = ["ModelLine"]

_MEASURE_S: Final = 0.05
"""How old the sum over load reports may be: it takes a microsecond for each worker, and reports come about
as often.
"""


@final
class ModelLine:
    """Of the model called `name`."""

    def __init__(
        self, name: str, pool: EndpointPool, limits: AdmissionLimits, *, now: float
    ) -> None:
        self.name = name
        self.line = Line(limits, capacity=limits.blind_max)
        self._pool = pool
        self._limits = limits
        self._measured_at = now
        self._membership: asyncio.Event | None = None
        """The pool's event at the last measurement: another one means that somebody came or went since."""
        self._blind_since: float | None = None
        self.measure(now)

    def __repr__(self) -> str:
        return f"ModelLine({self.name}: {self.line!r})"

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """Those that serve the model, in any state."""
        return self._pool.snapshot().models.get(self.name, ())

    @property
    def is_obsolete(self) -> bool:
        """Nobody is in it and nobody serves the model."""
        return self.line.is_unused and not self.endpoints

    def measure(self, now: float) -> None:
        """Takes over what workers report, unless that was done a moment ago."""
        membership = self._pool.changed()
        if membership is self._membership and now - self._measured_at < _MEASURE_S:
            return
        self._membership = membership
        self._measured_at = now
        rows = rows_for_us(
            self.endpoints,
            now=now,
            look_ahead=self._limits.look_ahead,
            rows_per_call=self.line.rows_per_call,
        )
        if rows is not None:
            self._blind_since = None
        elif self._blind_since is None:
            self._blind_since = now
        self.line.capacity = self._limits.blind_max if rows is None else rows

    def look_after(self, now: float) -> None:
        """Called every few milliseconds while somebody waits."""
        self.measure(now)
        if self._blind_since is not None:
            for waiter in list(self.line.room):
                waited_s = now - max(waiter.arrived_at, self._blind_since)
                if waited_s >= self._limits.no_worker_s_max:
                    self.line.refuse(waiter, refusals.no_worker(waited_s))
        self.line.age(now)
