"""Carries out the steps of a call over asyncio gRPC channels."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Generator
from typing import Any, final

import grpc

from lepton.v1 import inference_pb2, inference_pb2_grpc
from lepton_client.channels import ChannelPool
from lepton_client.errors import LeptonError
from lepton_client.status import TRACE_ID_KEY, error_of
from lepton_client.steps import (
    Answered,
    Close,
    Ended,
    Failed,
    Give,
    Open,
    Pause,
    Read,
    Reply,
    Step,
    Unary,
)
from lepton_client.wire import cancelled

__all__ = ["AsyncWire"]


@final
class AsyncWire:
    """For one call at a time, in one event loop."""

    def __init__(self, channels: ChannelPool[grpc.aio.Channel]) -> None:
        self._channels = channels
        self._call: Any = None
        self._cancelled = asyncio.Event()
        self.trace_id = ""
        """Of the stream that is open, or was last; "" until its first message."""

    async def run(
        self, core: Generator[Step, Reply, Any]
    ) -> AsyncGenerator[inference_pb2.Event, None]:
        """Yields the events that the core gives. Raises `LeptonError`."""
        reply: Reply = None
        try:
            while True:
                if self._cancelled.is_set():
                    raise cancelled()
                try:
                    step = core.send(reply)
                except StopIteration:
                    return
                reply = None
                if isinstance(step, Give):
                    for event in step.events:
                        yield event
                else:
                    reply = await self._do(step)
        finally:
            core.close()
            self._end()

    async def value(self, core: Generator[Step, Reply, Any]) -> Any:
        """What a core returns that gives no events. Raises `LeptonError`."""
        reply: Reply = None
        try:
            while True:
                reply = await self._do(core.send(reply))
        except StopIteration as end:
            return end.value

    def cancel(self) -> None:
        """The running call ends with `Cancelled`."""
        self._cancelled.set()
        if self._call is not None:
            self._call.cancel()

    # --- inside -------------------------------------------------------------------------------

    async def _do(self, step: Step) -> Reply:
        match step:
            case Open():
                self._end()
                self.trace_id = ""
                self._call = self._stub(step.address).Generate(
                    step.request, timeout=step.timeout_s, metadata=step.metadata
                )
            case Read():
                return await self._read(step.silence_s)
            case Close():
                self._end()
            case Unary():
                method = getattr(self._stub(step.address), step.method)
                self._call = method(step.request, timeout=step.timeout_s, metadata=step.metadata)
                return await self._reply(self._call)
            case Pause():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(step.seconds):
                        await self._cancelled.wait()
            case Give():
                raise AssertionError("given in `run`")
        return None

    async def _read(self, silence_s: float | None) -> Reply:
        try:
            async with asyncio.timeout(silence_s):
                reply = await self._reply(self._call.read())
                if not self.trace_id and isinstance(reply, Answered):
                    metadata = dict(await self._call.initial_metadata() or ())
                    self.trace_id = str(metadata.get(TRACE_ID_KEY, "-"))
                return reply
        except TimeoutError:
            return Failed(error_of("UNAVAILABLE", f"silent for {silence_s:g} s", ()))

    async def _reply(self, awaited: Awaitable[Any]) -> Reply:
        try:
            message = await awaited
        except asyncio.CancelledError:
            # gRPC raises it for a call that `cancel` ended, asyncio for a task that shall end.
            if self._cancelled.is_set():
                raise cancelled() from None
            raise
        except grpc.aio.AioRpcError as error:
            return Failed(_meant(error))
        return Ended() if message is grpc.aio.EOF else Answered(message)

    def _end(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _stub(self, address: str) -> Any:
        return inference_pb2_grpc.InferenceServiceStub(self._channels.get(address))  # type: ignore[no-untyped-call]


def _meant(error: grpc.aio.AioRpcError) -> LeptonError:
    # Trailing metadata last: of a key that comes twice, theirs holds.
    metadata = (*(error.initial_metadata() or ()), *(error.trailing_metadata() or ()))
    return error_of(error.code().name, error.details() or "", metadata)
