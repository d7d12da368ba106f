"""How many rows the workers of a model have for this router."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from router.core.endpoint import Endpoint, EndpointState

__all__ = ["rows_for_us"]

_STALE_S: Final = 1.0
"""A load report older than that says nothing any more; reports come every 50 ms or so."""


def rows_for_us(
    endpoints: Iterable[Endpoint], *, now: float, look_ahead: float, rows_per_call: float
) -> int | None:
    """Rows that may be held by calls of this router at the same time; None when no endpoint is ready.

    Per endpoint: its rows and the look-ahead, minus what others hold there (what it reports minus what came from us,
    `rows_per_call` each). Our own calls are not read from reports: we know them better. At least the look-ahead is
    always ours, so that a router that starts beside busy ones gets its first calls in. What a stale report says of
    others is ignored: the worker's own queue is the bound then.
    """
    total: int | None = None
    for endpoint in endpoints:
        if endpoint.state is not EndpointState.READY:
            continue
        load = endpoint.load
        ahead = max(1, int(load.rows_max * look_ahead))
        others = 0
        if now - load.received_at <= _STALE_S:
            ours = round(load.in_flight_of_router * rows_per_call)
            others = max(0, load.running + load.waiting - ours)
        total = (total or 0) + max(ahead, load.rows_max + ahead - others)
    return total
