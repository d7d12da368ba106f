"""What the router's core needs of the outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from common.errors import LeptonError
from router.core.call import Call, RoutingView
from router.core.endpoint import Endpoint
from router.core.route import Route

__all__ = [
    "AdmissionObserver",
    "GenerateCodec",
    "RouteObserver",
    "StreamRecord",
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
    def was_taken(self) -> bool:
        """Whether the worker has confirmed that the call reached it, known once `read` has returned or raised."""
        ...

    @property
    def finished(self) -> bytes:
        """The worker's serialised `Finished`; empty until `read` returned None."""
        ...

    def abandon(self, error: LeptonError) -> None:
        """The worker is given up: the running or next `read` raises `error`."""
        ...

    def close(self) -> None:
        """Cancels the call on the worker unless it has ended. Never blocks, may be called twice."""
        ...


class WorkerReply(Protocol):
    """One running call with one response message. Otherwise as `WorkerStream`."""

    async def read(self) -> bytes:
        """The serialised response; called once. Raises and is cancelled as `WorkerStream.read`."""
        ...

    def abandon(self, error: LeptonError) -> None:
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

    def let_go(self, endpoint: Endpoint, request: bytes, call: Call) -> None:
        """Tells a worker that `call`, which outlives its connection, was given up there, so that it is not computed on
        for nobody. `request` is a serialised `AbortRequest`. Returns at once; whether it arrives is not told.
        """
        ...


class StreamRecord(Protocol):
    """What one stream has told its client so far, as far as another worker needs it to go on."""

    def check(self, message: bytes) -> None:
        """Notes that a message comes next, without reading more of it than its place in the stream.

        Raises `StreamFault` when it is not the one that is due; then it is no part of the stream.
        """
        ...

    def take(self, messages: Sequence[bytes]) -> None:
        """Folds in serialised `GenerateResponse`s that were checked, in order. Raises `StreamFault`; after that it is
        of no use.
        """
        ...

    @property
    def finished(self) -> bytes | None:
        """The serialised `Finished`, if the stream has told it; then nothing is left to do."""
        ...

    def continue_request(self, *, revision: str, attempt: int, from_worker_id: str) -> bytes | None:
        """The request to go on with; None when the record does not begin with `Started`."""
        ...

    def abort_request(self) -> bytes:
        """The `AbortRequest` for the call on the worker that spoke last; b"" when it ends with its connection."""
        ...


class GenerateCodec(Protocol):
    """Reads and changes messages of Generate for the core, which never looks inside them."""

    def new_record(self, payload: bytes, *, is_resumed: bool) -> StreamRecord:
        """Of a stream that answers this request and has told nothing yet; one that is resumed may begin anywhere."""
        ...

    def fingerprint(self, payload: bytes) -> bytes:
        """The same for requests that ask for the same work, whatever their names."""
        ...

    def has_output(self, message: bytes) -> bool:
        """Whether the message brings something that the model produced."""
        ...

    def with_token_ids(self, payload: bytes) -> bytes:
        """The request, asking for token ids."""
        ...

    def without_token_ids(self, message: bytes) -> bytes:
        """The response message, as a worker sends it to who asked for no token ids."""
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
