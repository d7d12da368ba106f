"""What the router's core needs of the outside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from router.core.call import Call
from router.core.endpoint import Endpoint

__all__ = ["WorkerClient"]


class WorkerClient(Protocol):
    """Calls one worker."""

    def generate(self, endpoint: Endpoint, payload: bytes, call: Call) -> AsyncIterator[bytes]:
        """Serialised `GenerateResponse` messages exactly as the worker sent them, in order.

        Ends normally only for a stream that is whole (status OK with `lepton-finished-bin`). Raises `LeptonError`:
        `Unavailable(WORKER_LOST)` for a broken connection or a stream that ended without its end,
        otherwise the worker's own error. Cancellation cancels the call on the worker.
        """
        ...
