"""Routers over gRPC: the next one when one cannot be reached and the caller has nothing yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar, cast, final

import grpc
from google.protobuf.message import Message
from opentelemetry.trace import Tracer

from common.clock import Clock
from common.errors import Cancelled, LeptonError, Reason, Unavailable
from common.rpc.channel import open_channel
from common.rpc.status import from_rpc_error
from common.telemetry.interceptors import TracedChannel
from gateway.ports import Asked, Write
from lepton.v1 import inference_pb2

__all__ = ["Routers"]

_SERVICE: Final = "/lepton.v1.InferenceService/"
_READY_S_MAX: Final = 1.0
"""Longest wait for a router that is asked whether it is there, seconds."""

ResultT = TypeVar("ResultT")


@final
class Routers:
    """The `Upstream` of `lepton-gateway`. Calls go to the routers in turn, those that were just unreachable last.

    Resources: `close` gives the channels back. Errors: those of `Upstream`; `Unavailable(UNREACHABLE)` when no router
    answers. What a router refuses as draining or starting another one may take; every other refusal stands.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        message_bytes_max: int,
        pause_s: float,
        tracer: Tracer,
        clock: Clock,
    ) -> None:
        self._channels: dict[str, Any] = {
            address: TracedChannel(
                open_channel(address, message_bytes_max=message_bytes_max), tracer, address=address
            )
            for address in addresses
        }
        self._paused_until = dict.fromkeys(addresses, 0.0)
        self._pause_s = pause_s
        self._clock = clock
        self._turn = 0

    def __repr__(self) -> str:
        return f"Routers({', '.join(self._channels)})"

    async def generate(self, request: bytes, asked: Asked, write: Write) -> None:
        """See `Upstream.generate`."""

        async def attempt(channel: Any) -> None:
            call = channel.unary_stream(f"{_SERVICE}Generate")(
                request, timeout=asked.timeout_s, metadata=asked.metadata
            )
            begun = False
            try:
                while (message := await call.read()) is not grpc.aio.EOF:
                    begun = True
                    await write(cast("bytes", message))
            except grpc.aio.AioRpcError as error:
                raise _meant(error, begun=begun) from error
            finally:
                call.cancel()  # does nothing to a call that has ended

        await self._first_that_answers(attempt)

    async def unary(self, method: str, request: Message, asked: Asked) -> bytes:
        """See `Upstream.unary`."""
        payload = request.SerializeToString()

        async def attempt(channel: Any) -> bytes:
            call = channel.unary_unary(_SERVICE + method)(
                payload, timeout=asked.timeout_s, metadata=asked.metadata
            )
            try:
                return cast("bytes", await call)
            except grpc.aio.AioRpcError as error:
                raise _meant(error, begun=False) from error

        return await self._first_that_answers(attempt)

    async def is_ready(self) -> bool:
        """Whether a router takes calls now."""
        try:
            async with asyncio.timeout(_READY_S_MAX):
                await self.unary("ListModels", inference_pb2.ListModelsRequest(), Asked())
        except (LeptonError, TimeoutError):
            return False
        return True

    async def close(self) -> None:
        """Ends what still runs."""
        for channel in self._channels.values():
            await channel.close()

    async def _first_that_answers(self, attempt: Callable[[Any], Awaitable[ResultT]]) -> ResultT:
        refusal: LeptonError | None = None
        for address in self._in_turn():
            try:
                return await attempt(self._channels[address])
            except _NotTaken as error:
                refusal = error.refusal
                self._paused_until[address] = self._clock.now() + self._pause_s
        if refusal is None or refusal.reason is Reason.UNREACHABLE:
            raise Unavailable(
                f"no router answers (of {len(self._channels)} in setting gateway.routers)",
                reason=Reason.UNREACHABLE,
                retry_after_s=1.0,
            ) from refusal
        raise refusal

    def _in_turn(self) -> list[str]:
        addresses = list(self._channels)
        self._turn = (self._turn + 1) % len(addresses)
        addresses = addresses[self._turn :] + addresses[: self._turn]
        now = self._clock.now()
        return sorted(addresses, key=lambda address: self._paused_until[address] > now)


class _NotTaken(Exception):
    """A router has not begun the call."""

    def __init__(self, refusal: LeptonError) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def _meant(error: grpc.aio.AioRpcError, *, begun: bool) -> Exception:
    meant = from_rpc_error(error)
    is_ours = meant.reason is not Reason.WORKER_LOST or bool(error.trailing_metadata())
    if isinstance(meant, Cancelled) and meant.reason is Reason.CLIENT_GONE:
        is_ours = False  # we did not cancel: the router was torn down under the call
    if begun and not is_ours:
        return Unavailable(
            "the router of this stream closed the connection",
            reason=Reason.WORKER_LOST,
            retry_after_s=1.0,
        )
    if not is_ours:
        lost = Unavailable(meant.message, reason=Reason.UNREACHABLE, retry_after_s=1.0)
        # With the request id a router says that it has taken the call: another one might compute it twice.
        return lost if error.initial_metadata() else _NotTaken(lost)
    if not begun and meant.reason in {Reason.DRAINING, Reason.STARTING}:
        return _NotTaken(meant)
    return meant
