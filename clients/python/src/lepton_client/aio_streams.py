"""Answers as asynchronous iterators."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self, final

from lepton.v1 import inference_pb2, types_pb2
from lepton_client.aio_wire import AsyncWire
from lepton_client.answer import Answer
from lepton_client.direct import DirectCall
from lepton_client.errors import LeptonError
from lepton_client.relayed import RelayedCall

__all__ = ["AsyncEventStream", "AsyncTextStream"]


@final
class AsyncEventStream:
    """The events of one answer, each `seq` once and in order. Iterate over it once; what has come is in `answer`.

    Leaving the `async with` block, cancelling the task or `cancel` stop the compute at once; leaving the iteration
    alone does so when its generator is collected. Errors: any `LeptonError`, while iterating.
    """

    def __init__(
        self,
        call: RelayedCall | DirectCall,
        wire: AsyncWire,
        abort: Callable[[inference_pb2.AbortRequest], Awaitable[None]],
        num_choices: int,
    ) -> None:
        self._call = call
        self._wire = wire
        self._abort = abort
        self._is_begun = False
        self._is_over = False
        self.answer = Answer(num_choices)
        """What has come so far."""

    def __aiter__(self) -> AsyncGenerator[inference_pb2.Event, None]:
        if self._is_begun:
            raise RuntimeError("an answer can be iterated over once; what came is in `answer`")
        self._is_begun = True
        # Not kept here: whoever leaves a loop lets go of the iterator, which thereby ends the call.
        return self._iterate()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.cancel()

    async def read(self) -> Answer:
        """Reads it to its end, instead of iterating. Raises `LeptonError`."""
        async for _ in self:
            pass
        return self.answer

    async def cancel(self) -> None:
        """Gives the call up: whoever iterates gets `Cancelled`. Nothing happens after the end."""
        if self._is_over:
            return
        self._is_over = True
        self._wire.cancel()
        request = self._call.abort
        if request is not None:
            with contextlib.suppress(LeptonError):  # nobody hears us: the call ends by itself
                await self._abort(request)

    @property
    def trace_id(self) -> str:
        """What `lepton trace` of the cluster takes, from the first event on; "" before, and where nobody traces."""
        return self._wire.ids.trace_id

    @property
    def request_id(self) -> str:
        """The call's name in the logs of the cluster, from the first event on."""
        return self._wire.ids.request_id

    async def _iterate(self) -> AsyncGenerator[inference_pb2.Event, None]:
        async with contextlib.aclosing(self._wire.run(self._call.run())) as events:
            try:
                async for event in events:
                    self.answer.take(event)
                    yield event
            except (GeneratorExit, asyncio.CancelledError):
                await self.cancel()
                raise
            except LeptonError:
                self._is_over = True
                raise
            self._is_over = True


@final
class AsyncTextStream:
    """The text of one answer, piece by piece: of choice 0, and of all with `parts`. Otherwise as `AsyncEventStream`."""

    def __init__(self, stream: AsyncEventStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[str]:
        async with contextlib.aclosing(self.parts()) as parts:
            async for index, text in parts:
                if index == 0:
                    yield text

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.cancel()

    async def parts(self) -> AsyncGenerator[tuple[int, str], None]:
        """Choice and piece of text, as they come."""
        try:
            async for event in self._stream:
                if event.delta.text:
                    yield event.delta.index, event.delta.text
        except GeneratorExit:
            await self.cancel()
            raise

    def events(self) -> AsyncEventStream:
        """The events instead."""
        return self._stream

    async def text(self) -> str:
        """Reads to the end; the whole text of choice 0."""
        return (await self._stream.read()).texts[0]

    async def texts(self) -> list[str]:
        """Reads to the end; the whole text of each choice."""
        return (await self._stream.read()).texts

    async def cancel(self) -> None:
        """Gives the call up."""
        await self._stream.cancel()

    @property
    def answer(self) -> Answer:
        """What has come so far."""
        return self._stream.answer

    @property
    def usage(self) -> types_pb2.Usage | None:
        """Token counts; None before the end."""
        return self.answer.usage

    @property
    def finish_reason(self) -> str | None:
        """Of choice 0: "STOP" or "LENGTH"; None before its end."""
        return self.answer.finish_reasons[0]
