"""What one call asks of admission."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from router.core.call import BYTES_PER_TOKEN, Call, RoutingView

__all__ = ["Band", "Demand", "band_of"]


class Band(IntEnum):
    """Priority of a waiting call; lower numbers go first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Of one call."""

    caller: str = ""
    band: Band = Band.NORMAL
    tokens: int = 1
    """Estimated work, at least 1: what is to be computed of the prompt, and the expected output."""
    rows: int = 1
    """Rows of a batch that it will take."""
    num_bytes: int = 0
    """Memory that it holds while it waits."""
    deadline: float
    """On the router's clock, seconds."""
    patience_s: float | None = None
    """Longest that it wants to wait, seconds."""

    @staticmethod
    def of(view: RoutingView, call: Call, *, known_bytes: int = 0) -> Demand:
        """What the call asks for, if so many bytes of its prompt need not be computed."""
        return Demand(
            caller=view.caller,
            band=band_of(view.priority),
            tokens=max(1, view.cost.tokens - known_bytes // BYTES_PER_TOKEN),
            rows=view.cost.rows,
            num_bytes=view.cost.num_bytes,
            deadline=call.deadline,
            patience_s=view.queue_s_max,
        )


def band_of(priority: int) -> Band:
    """The band of a request's priority: above 0, 0, or below."""
    if priority == 0:
        return Band.NORMAL
    return Band.HIGH if priority > 0 else Band.LOW
