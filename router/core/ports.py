"""What the router's core needs of the outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Protocol

from common.errors import LeptonError
from router.core.call import Call, RoutingView
from router.core.endpoint import Endpoint
from router.core.route import Route

__all__ = [
    "AdmissionObserver",
    "RouteObserver",
    "WorkerClient",
    "WorkerReply",
    "WorkerStream",
    "Write",
]

Write = Callable[[bytes], Awaitable[None]]
"""Sends one serialised response message to the client; returns when the transport took it (backpressure)."""


class WorkerStream(Protocol):
    """One running Generate on one worker. Used by one task; `abandon` may be called from elsewhere on the loop."""

    async def read(self) -> bytes | None:
        """The next serialised `GenerateResponse` exactly as the worker sent it; None after the last one.

        None comes only for a stream that is whole (status OK with `lepton-finished-bin`). Raises `LeptonError`:
        `Unavailable(WORKER_LOST)` for a broken connection or a stream that ended without its end, otherwise the
        worker's own error. Cancellation cancels the call on the worker.
        """
        ...

    @property
    def finished(self) -> bytes:
        """The worker's serialised `Finished`; empty until `read` returned None."""
        ...

    def abandon(self) -> None:
        """The worker is given up: the running or next `read` raises `Unavailable(WORKER_LOST)`."""
        ...

    def close(self) -> None:
        """Cancels the call on the worker unless it has ended. Never blocks, may be called twice."""
        ...


class WorkerReply(Protocol):
    """One running call with one response message. Otherwise as `WorkerStream`."""

    async def read(self) -> bytes:
        """The serialised response; called once. Raises and is cancelled as `WorkerStream.read`."""
        ...

    def abandon(self) -> None:
        """See `WorkerStream.abandon`."""
        ...

    def close(self) -> None:
        """See `WorkerStream.close`."""
        ...


class WorkerClient(Protocol):
    """Calls workers. No method blocks on another call."""

    def generate(self, endpoint: Endpoint, payload: bytes, call: Call) -> WorkerStream:
        """Starts a Generate with the remaining time of `call` as its deadline. Errors come from `read`."""
        ...

    def unary(self, endpoint: Endpoint, method: str, payload: bytes, call: Call) -> WorkerReply:
        """Starts a call of the InferenceService method `method`, likewise."""
        ...


class RouteObserver(Protocol):
    """Watches calls for traces and metrics; must not raise."""

    def choosing(self, route: Route) -> AbstractContextManager[None]:
        """Entered around each choice of an endpoint, waiting included; at its exit `route` says what was chosen."""
        ...


class AdmissionObserver(Protocol):
    """Watches who waits for a worker, for traces and metrics; must not raise."""

    def queueing(self, route: Route, predicted_s: float | None) -> AbstractContextManager[None]:
        """Entered around the wait of a call, with what was predicted (seconds; None when nothing was known); at its
        exit `route.queued_s` says how long it was.
        """
        ...

    def admitted(self, route: Route, view: RoutingView) -> None:
        """A call goes on to the workers."""
        ...

    def refused(self, error: LeptonError) -> None:
        """A call does not."""
        ...
