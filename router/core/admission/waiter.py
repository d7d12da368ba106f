"""A call that waits, and what it waits for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from common.errors import LeptonError
from router.core.admission.demand import Band, Demand

__all__ = ["Ticket", "Waiter"]


@dataclass(slots=True, kw_only=True, eq=False)
class Ticket:
    """The right to hold rows, from admission to the end of the call, wherever the call goes meanwhile."""

    demand: Demand
    since: float


@dataclass(slots=True, kw_only=True, eq=False)
class Waiter:
    """Settled exactly once: with a ticket or an error, unless it is withdrawn before."""

    demand: Demand
    number: int
    """Rises with every arrival."""
    caller: str | None
    """Under whose name it waits; None is everybody beyond the callers that are told apart."""
    arrived_at: float
    band: Band
    """The band that it is in now: that of its demand, or a higher one by ageing."""
    band_since: float
    until: float
    """Before that time it need not be asked whether it has waited too long."""
    predicted_wait_s: float | None = None
    """At its arrival; None when nothing was known."""
    outcome: Ticket | LeptonError | None = None
    on_settled: Callable[[], None] | None = None

    def settle(self, outcome: Ticket | LeptonError) -> None:
        """Tells whoever waits."""
        self.outcome = outcome
        if self.on_settled is not None:
            self.on_settled()
