"""A stream's events, each once and in order, and the way back to it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from lepton.v1 import inference_pb2
from lepton_client.errors import Internal

__all__ = ["Order"]


@final
class Order:
    """What came of one stream that answers `request`."""

    def __init__(self, request: inference_pb2.GenerateRequest) -> None:
        self._request = request
        resume = request.resume  # filled in by hand: begins in the middle
        self._next_seq = resume.after_seq + 1 if resume.HasField("after_seq") else 0
        self._token = resume.resume_token
        self.has_begun = False
        """An event has come."""
        self.is_finished = False
        """`Finished` has come."""

    @property
    def last_seq(self) -> int | None:
        """Of the last event that has come; None before the first."""
        return self._next_seq - 1 if self.has_begun else None

    @property
    def resume_token(self) -> str:
        """The one told last; "" unless the call is resumable."""
        return self._token

    def take(self, events: Iterable[inference_pb2.Event]) -> tuple[inference_pb2.Event, ...]:
        """Those that are new. Raises `Internal(STREAM_FAULT)` when one is missing before them."""
        return tuple(event for event in events if self._is_new(event))

    def request_now(self) -> inference_pb2.GenerateRequest:
        """What to ask: the request, and from where on, once the stream has begun."""
        if not self._token or not self.has_begun:
            return self._request
        resuming = inference_pb2.GenerateRequest()
        resuming.CopyFrom(self._request)
        resuming.resume.resume_token = self._token
        resuming.resume.after_seq = self._next_seq - 1
        return resuming

    def _is_new(self, event: inference_pb2.Event) -> bool:
        if event.seq < self._next_seq:
            return False
        if event.seq > self._next_seq or self.is_finished:
            raise Internal(
                f"event {event.seq} came where {self._next_seq} was due",
                code="INTERNAL",
                reason="STREAM_FAULT",
            )
        self._next_seq += 1
        self.has_begun = True
        match event.WhichOneof("kind"):
            case "started":
                self._token = event.started.resume_token
            case "migrated":
                self._token = event.migrated.resume_token or self._token
            case "finished":
                self.is_finished = True
            case _:
                pass  # a kind of a newer cluster
        return True
