"""Answers as blocking iterators."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self, final

from lepton.v1 import inference_pb2, types_pb2
from lepton_client.answer import Answer
from lepton_client.direct import DirectCall
from lepton_client.errors import LeptonError
from lepton_client.relayed import RelayedCall
from lepton_client.wire import Wire

__all__ = ["EventStream", "TextStream"]


@final
class EventStream:
    """The events of one answer, each `seq` once and in order. Iterate over it once; what has come is in `answer`.

    Leaving the iteration, the `with` block or calling `cancel` stops the compute. Errors: any `LeptonError`, while
    iterating.
    """

    def __init__(
        self,
        call: RelayedCall | DirectCall,
        wire: Wire,
        abort: Callable[[inference_pb2.AbortRequest], None],
        num_choices: int,
    ) -> None:
        self._call = call
        self._wire = wire
        self._abort = abort
        self._is_begun = False
        self._is_over = False
        self.answer = Answer(num_choices)
        """What has come so far."""

    def __iter__(self) -> Iterator[inference_pb2.Event]:
        if self._is_begun:
            raise RuntimeError("an answer can be iterated over once; what came is in `answer`")
        self._is_begun = True
        # Not kept here: whoever leaves a loop lets go of the iterator, which thereby ends the call.
        return self._iterate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cancel()

    def read(self) -> Answer:
        """Reads it to its end, instead of iterating. Raises `LeptonError`."""
        for _ in self:
            pass
        return self.answer

    def cancel(self) -> None:
        """Gives the call up, from any thread: whoever iterates gets `Cancelled`. Nothing happens after the end."""
        if self._is_over:
            return
        self._is_over = True
        self._wire.cancel()
        request = self._call.abort
        if request is not None:
            with contextlib.suppress(LeptonError):  # nobody hears us: the call ends by itself
                self._abort(request)

    @property
    def trace_id(self) -> str:
        """What `lepton trace` of the cluster takes, from the first event on; "" before, and where nobody traces."""
        return self._wire.ids.trace_id

    @property
    def request_id(self) -> str:
        """The call's name in the logs of the cluster, from the first event on."""
        return self._wire.ids.request_id

    def _iterate(self) -> Iterator[inference_pb2.Event]:
        with contextlib.closing(self._wire.run(self._call.run())) as events:
            try:
                for event in events:
                    self.answer.take(event)
                    yield event
            except GeneratorExit:
                self.cancel()
                raise
            except LeptonError:
                self._is_over = True
                raise
            self._is_over = True


@final
class TextStream:
    """The text of one answer, piece by piece: of choice 0, and of all with `parts`. Otherwise as `EventStream`."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[str]:
        for index, text in self.parts():
            if index == 0:
                yield text

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cancel()

    def parts(self) -> Iterator[tuple[int, str]]:
        """Choice and piece of text, as they come."""
        for event in self._stream:
            if event.delta.text:
                yield event.delta.index, event.delta.text

    def events(self) -> EventStream:
        """The events instead."""
        return self._stream

    def text(self) -> str:
        """Reads to the end; the whole text of choice 0."""
        return self._stream.read().texts[0]

    def texts(self) -> list[str]:
        """Reads to the end; the whole text of each choice."""
        return self._stream.read().texts

    def cancel(self) -> None:
        """Gives the call up."""
        self._stream.cancel()

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
