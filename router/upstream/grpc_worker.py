"""Calls to workers over grpc.aio: bytes in, bytes out, nothing decoded.

The remaining time of the call is the gRPC deadline; the metadata carries the cluster token, the router's id and the
request id; the trace context is added by the channel's interceptors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast, final

import grpc

from common.clock import Clock
from common.errors import Cancelled, DeadlineExceeded, LeptonError, Reason, Unavailable
from common.rpc.metadata import FINISHED_KEY, LET_GO_KEY
from common.rpc.status import from_rpc_error
from router.core.call import Call
from router.core.endpoint import Endpoint
from router.upstream.channels import Channels

__all__ = ["GrpcWorker"]

_SERVICE: Final = "/lepton.v1.InferenceService/"
_EOF: Final = grpc.aio.EOF
_LET_GO_S_MAX: Final = 60.0
"""So long a frozen worker may take to hear that it was given up; then its call has mostly come to its end itself."""


@final
class GrpcWorker:
    """The `WorkerClient` of a running router. `metadata` goes with every call: token and router id."""

    def __init__(
        self, channels: Channels, *, metadata: tuple[tuple[str, str], ...], clock: Clock
    ) -> None:
        self._channels = channels
        self._metadata = metadata
        self._clock = clock
        self._aborts: set[Any] = set()
        """Under way; nobody waits for them, and a call that nobody holds is cancelled."""

    def generate(self, endpoint: Endpoint, payload: bytes, call: Call) -> GrpcStream:
        """See `WorkerClient.generate`."""
        return GrpcStream(
            self._channels,
            endpoint,
            payload,
            self._remaining_s(call),
            self._metadata + call.metadata,
        )

    def unary(self, endpoint: Endpoint, method: str, payload: bytes, call: Call) -> GrpcReply:
        """See `WorkerClient.unary`."""
        return GrpcReply(
            self._channels,
            endpoint,
            method,
            payload,
            self._remaining_s(call),
            self._metadata + call.metadata,
        )

    def let_go(self, endpoint: Endpoint, request: bytes, call: Call) -> None:
        """See `WorkerClient.let_go`."""
        address = endpoint.address
        channel: Any = self._channels.acquire(address)
        abort = channel.unary_unary(f"{_SERVICE}Abort")(
            request,
            timeout=_LET_GO_S_MAX,
            metadata=(*self._metadata, *call.metadata, (LET_GO_KEY, "given-up")),
        )
        self._aborts.add(abort)

        def forget(_: Any) -> None:
            self._aborts.discard(abort)
            self._channels.release(address)

        abort.add_done_callback(forget)

    def _remaining_s(self, call: Call) -> float:
        remaining = call.deadline - self._clock.now()
        if remaining <= 0:
            raise DeadlineExceeded("the deadline passed before the worker was asked")
        return remaining


class _Running:
    """A call on a worker, which holds its channel until `close`."""

    __slots__ = ("_abandoned", "_call", "_channels", "_endpoint")

    def __init__(self, channels: Channels, endpoint: Endpoint, start: Callable[[Any], Any]) -> None:
        self._endpoint = endpoint
        self._abandoned: LeptonError | None = None
        self._call = start(channels.acquire(endpoint.address))
        self._channels: Channels | None = channels

    def __repr__(self) -> str:
        state = "done" if self._call.done() else "running"
        return f"{type(self).__name__}({self._endpoint.id}, {state})"

    def abandon(self, error: LeptonError) -> None:
        """See `WorkerStream.abandon`."""
        self._abandoned = error
        self._call.cancel()

    def close(self) -> None:
        """See `WorkerStream.close`."""
        if self._channels is not None:
            self._call.cancel()  # does nothing to a call that has ended
            self._channels.release(self._endpoint.address)
            self._channels = None

    async def _answer(self, waiting: Awaitable[Any]) -> Any:
        """What `waiting` gives, its errors as the router's caller should see them."""
        try:
            return await waiting
        except grpc.aio.AioRpcError as error:
            raise _meant(error, self._endpoint) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._abandoned and not (task and task.cancelling()):
                raise self._abandoned from None
            raise


@final
class GrpcReply(_Running):
    """The `WorkerReply` of `GrpcWorker.unary`."""

    __slots__ = ()

    def __init__(
        self,
        channels: Channels,
        endpoint: Endpoint,
        method: str,
        payload: bytes,
        timeout_s: float,
        metadata: tuple[tuple[str, str], ...],
    ) -> None:
        super().__init__(
            channels,
            endpoint,
            lambda channel: channel.unary_unary(_SERVICE + method)(
                payload, timeout=timeout_s, metadata=metadata
            ),
        )

    async def read(self) -> bytes:
        """See `WorkerReply.read`."""
        return cast("bytes", await self._answer(self._call))


@final
class GrpcStream(_Running):
    """The `WorkerStream` of `GrpcWorker.generate`."""

    __slots__ = ("_finished", "_was_taken")

    def __init__(
        self,
        channels: Channels,
        endpoint: Endpoint,
        payload: bytes,
        timeout_s: float,
        metadata: tuple[tuple[str, str], ...],
    ) -> None:
        super().__init__(
            channels,
            endpoint,
            lambda channel: channel.unary_stream(f"{_SERVICE}Generate")(
                payload, timeout=timeout_s, metadata=metadata
            ),
        )
        self._finished = b""
        self._was_taken = False

    @property
    def was_taken(self) -> bool:
        """See `WorkerStream.was_taken`: a worker sends the request id back before anything else."""
        return self._was_taken

    @property
    def finished(self) -> bytes:
        """See `WorkerStream.finished`."""
        return self._finished

    async def read(self) -> bytes | None:
        """See `WorkerStream.read`."""
        try:
            message = await self._answer(self._call.read())
        except Unavailable as error:
            cause = error.__cause__
            self._was_taken = isinstance(cause, grpc.aio.AioRpcError) and bool(
                cause.initial_metadata()
            )
            raise
        if message is not _EOF:
            return cast("bytes", message)
        for key, value in await self._call.trailing_metadata() or ():
            if key == FINISHED_KEY and isinstance(value, bytes):
                self._finished = value
                return None
        self._was_taken = True
        raise _lost(self._endpoint, "ended the stream before its end")


def _meant(error: grpc.aio.AioRpcError, endpoint: Endpoint) -> LeptonError:
    """The worker's error as the router's caller should see it."""
    meant = from_rpc_error(error)
    if isinstance(meant, Cancelled) and meant.reason is Reason.CLIENT_GONE:
        # We did not cancel, or nobody would be reading: the worker was torn down under the call.
        return _lost(endpoint, "broke off the call")
    if meant.reason is Reason.WORKER_LOST:
        return _lost(endpoint, "cannot be reached or closed the connection")
    return meant


def _lost(endpoint: Endpoint, what: str) -> Unavailable:
    return Unavailable(f"worker {endpoint.id} {what}", reason=Reason.WORKER_LOST, retry_after_s=1.0)
