"""Carries out the steps of a call over asyncio gRPC channels."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Generator
from typing import Any, final

import grpc

from lepton.v1 import inference_pb2, inference_pb2_grpc
from lepton_client.channels import ChannelPool
from lepton_client.errors import LeptonError
from lepton_client.silence import Silence
from lepton_client.status import CallIds, error_of, ids_of
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
from lepton_client.watch import Watch
from lepton_client.wire import cancelled

__all__ = ["AsyncWire"]


@final
class AsyncWire:
    """For one call at a time, in one event loop."""

    def __init__(self, channels: ChannelPool[grpc.aio.Channel]) -> None:
        self._channels = channels
        self._call: Any = None
        self._silence: Silence | None = None
        self._watch: Watch | None = None
        self._cancelled = asyncio.Event()
        self._has_ids = False
        self.ids = CallIds()
        """Of the stream whose message came last."""

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
                elif isinstance(step, Read):
                    reply = await self._read(step.silence_s)
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
                self._has_ids = False
                self._call = self._stub(step.address).Generate(
                    step.request, timeout=step.timeout_s, metadata=step.metadata
                )
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
            case Give() | Read():
                raise AssertionError("done in `run`")
        return None

    async def _read(self, silence_s: float | None) -> Reply:
        if silence_s is not None:
            if self._silence is None:
                self._silence = Silence(silence_s, time.monotonic)
                self._watch = Watch(
                    self._call, self._silence, asyncio.get_running_loop().call_later
                )
            self._silence.begins()
        reply = await self._reply(self._call.read())
        if self._silence is not None:
            self._silence.ends()
        if not self._has_ids and isinstance(reply, Answered):
            self._has_ids, self.ids = True, ids_of(await self._call.initial_metadata() or ())
        return reply

    async def _reply(self, awaited: Awaitable[Any]) -> Reply:
        try:
            message = await awaited
        except asyncio.CancelledError:
            # gRPC raises it for a call that `cancel` or silence ended, asyncio for a task that shall end.
            if self._cancelled.is_set():
                raise cancelled() from None
            if self._silence is not None and self._silence.is_over:
                return Failed(self._silence.error)
            raise
        except grpc.aio.AioRpcError as error:
            return Failed(_meant(error))
        return Ended() if message is grpc.aio.EOF else Answered(message)

    def _end(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = self._silence = None
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _stub(self, address: str) -> Any:
        return inference_pb2_grpc.InferenceServiceStub(self._channels.get(address))  # type: ignore[no-untyped-call]


def _meant(error: grpc.aio.AioRpcError) -> LeptonError:
    # Trailing metadata last: of a key that comes twice, theirs holds.
    metadata = (*(error.initial_metadata() or ()), *(error.trailing_metadata() or ()))
    return error_of(error.code().name, error.details() or "", metadata)
