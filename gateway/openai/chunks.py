"""A stream of events → chunks of the dialect, as bytes that are ready to be sent.

What does not change from chunk to chunk is encoded once per stream. Nothing of a text can end an event early: JSON has
no line breaks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any, Final, final

import msgspec

from common.errors import LeptonError
from gateway.http.problem import explained
from gateway.openai.beside import of_finished, of_migrated, of_started
from gateway.openai.place import Place
from gateway.openai.usage import usage_of
from lepton.v1 import inference_pb2, types_pb2

__all__ = ["DONE", "Chunks", "Envelope", "encode", "error_event", "fingerprint", "finish_reason"]

DONE: Final = b"data: [DONE]\n\n"

encode: Final[Callable[[Any], bytes]] = msgspec.json.Encoder().encode

_REASONS: Final = {
    types_pb2.FINISH_REASON_STOP: "stop",
    types_pb2.FINISH_REASON_LENGTH: "length",
}


def finish_reason(end: inference_pb2.ChoiceEnd) -> str:
    """OpenAI's word for why a choice ended."""
    return _REASONS.get(end.reason, "stop")


def fingerprint(started: inference_pb2.Started) -> str:
    """`system_fingerprint`: the same for answers by the same revision on the same kind of engine."""
    whole = f"{started.revision} {started.fingerprint}"
    return f"fp_{sha256(whole.encode()).hexdigest()[:12]}"


def error_event(error: LeptonError) -> bytes:
    """The last event of a stream that broke; OpenAI's clients raise it."""
    return b"data: " + encode({"error": explained(error)}) + b"\n\n"


@final
class Envelope:
    """What stands around the choice in every chunk of a response."""

    def __init__(self, *, kind: str, id_: str, created: int, model: str, tells_usage: bool) -> None:
        self._fields = {"id": id_, "object": kind, "created": created}
        self._model = model
        self._tells_usage = tells_usage
        self._head = b""
        self._tail = b""
        self.name(model, None)

    def name(self, model: str, system_fingerprint: str | None) -> None:
        """Who answers; known from the first event on."""
        named = {**self._fields, "model": model, "system_fingerprint": system_fingerprint}
        self._head = b"data: " + encode(named)[:-1] + b',"choices":['
        self._tail = b',"usage":null}\n\n' if self._tells_usage else b"}\n\n"

    def around(self, choice: bytes, beside: bytes = b"") -> bytes:
        """A chunk with one choice; `beside` as `gateway.openai.beside` makes it."""
        return b"%b%b]%b%b" % (self._head, choice, beside, self._tail)

    def last(self, usages: Iterable[types_pb2.Usage], beside: bytes = b"") -> bytes:
        """What follows the last choice."""
        if not self._tells_usage:
            return DONE
        told = b'],"usage":' + encode(usage_of(usages))
        return self._head + told + beside + b"}\n\n" + DONE


class Chunks(ABC):
    """The chunks of one call. `feed` takes its messages in order.

    `place` says what the client of a resumed call has: events up to there make no chunks again.
    """

    def __init__(self, envelope: Envelope, *, request_id: str, place: Place | None) -> None:
        self._envelope = envelope
        self._request_id = request_id
        self._token = place.token if place else ""
        self._known = place.seq if place else -1
        self.usage = types_pb2.Usage()
        """Filled by the last event, and so is this."""
        self.beside = b""
        self._news = b""  # for the next chunk

    def feed(self, message: bytes) -> bytes:
        """The events of one serialised `GenerateResponse` as chunks; may be empty."""
        made: list[bytes] = []
        for event in inference_pb2.GenerateResponse.FromString(message).events:
            choices = self._of(event)
            if not choices:
                continue
            news, self._news = self._news, b""
            if event.seq > self._known:
                chunks = [self._envelope.around(choice) for choice in choices[1:]]
                chunks.insert(0, self._envelope.around(choices[0], news))
                if self._token:
                    # With the last chunk of the event: until then the client does not have it.
                    chunks.insert(-1, self._id(event.seq))
                made += chunks
        return b"".join(made)

    def _id(self, seq: int) -> bytes:
        place = Place(seq=seq, token=self._token, request_id=self._request_id)
        return f"id: {place}\n".encode()

    def _of(self, event: inference_pb2.Event) -> list[bytes]:
        kind = event.WhichOneof("kind")
        if kind == "delta":
            return self._delta(event.delta)
        if kind == "started":
            self._token = event.started.resume_token
            self._envelope.name(event.started.model, fingerprint(event.started))
            self._news = of_started(event.started)
            return self._opening()
        if kind == "migrated":
            self._token = event.migrated.resume_token or self._token
            self._news = of_migrated(event.migrated)
        elif kind == "finished":
            self.usage = event.finished.usage
            self.beside = of_finished(event.finished)
        return []

    @abstractmethod
    def _opening(self) -> list[bytes]:
        """Choices that come before the first text, as JSON."""

    @abstractmethod
    def _delta(self, delta: inference_pb2.Delta) -> list[bytes]:
        """The choices of one delta, as JSON; each becomes a chunk."""
