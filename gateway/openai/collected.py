"""A whole answer, gathered from its events."""

from __future__ import annotations

from typing import final

from common.errors import Internal, Reason
from lepton.v1 import inference_pb2, types_pb2

__all__ = ["Collected"]


@final
class Collected:
    """`take` every message; after the call has ended, the fields hold the answer."""

    def __init__(self) -> None:
        self.started = inference_pb2.Started()
        self.usage = types_pb2.Usage()
        self.ends: list[inference_pb2.ChoiceEnd] = []
        """One per choice."""
        self.logprobs: dict[int, list[types_pb2.PositionLogprobs]] = {}
        self._texts: dict[int, list[str]] = {}

    async def take(self, message: bytes) -> None:
        """One serialised `GenerateResponse`; the `Write` of an `Upstream`."""
        for event in inference_pb2.GenerateResponse.FromString(message).events:
            kind = event.WhichOneof("kind")
            if kind == "delta":
                delta = event.delta
                self._texts.setdefault(delta.index, []).append(delta.text)
                self.logprobs.setdefault(delta.index, []).extend(delta.logprobs)
            elif kind == "started":
                self.started = event.started
            elif kind == "finished":
                self.usage = event.finished.usage
                self.ends = list(event.finished.choices)

    def text(self, index: int) -> str:
        """The answer of a choice."""
        return "".join(self._texts.get(index, ()))

    def check(self) -> None:
        """Raises `Internal(STREAM_FAULT)` when the stream had no end: a part is not given out as the whole."""
        if not self.ends:
            raise Internal("the stream ended before its end", reason=Reason.STREAM_FAULT)
