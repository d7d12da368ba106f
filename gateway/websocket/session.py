"""The conversation on one socket, without the socket: what a client may say when, and what it is told.

start, resume ──> running ── events … ──> ended     exactly one `end` or `error`, and nothing after it
                     └─ cancel ─> left ──┘          the id is free again

A text that is none of these is answered with a `fault` and changes nothing, until there were too many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, final

from common.errors import InvalidRequest, LeptonError, Overloaded, Reason
from common.request.request_id import is_request_id
from gateway.websocket.messages import (
    PONG,
    Envelope,
    end_text,
    error_text,
    events_text,
    fault_text,
    read_envelope,
    read_request,
    read_timeout,
)
from lepton.v1 import inference_pb2

__all__ = ["Begin", "Generation", "Leave", "Refuse", "Say", "Session", "State"]

_RETRY_S: Final = 1.0


class State(Enum):
    """Where a generation stands."""

    RUNNING = "running"
    LEFT = "left"
    """The client has cancelled; what is under way still comes, then the last message."""
    ENDED = "ended"


@final
@dataclass(slots=True, kw_only=True, eq=False)
class Generation:
    """One answer on the socket."""

    id: str
    """The client's name for it on this socket."""
    request_id: str
    """Its name in logs and traces."""
    state: State = State.RUNNING
    resume_token: str = ""
    """The way back to it, once it has begun and if it has one."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Ask the cluster."""

    generation: Generation
    request: inference_pb2.GenerateRequest
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Leave:
    """Stop asking the cluster."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell the client that nothing came of what it said, and why."""

    text: str
    request_id: str
    error: LeptonError


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the client."""

    text: str


@final
@dataclass(slots=True, kw_only=True)
class Session:
    """Belongs to one socket. Whoever does what `Begin` says calls `events` for whatever comes, and then `end`, once."""

    generations_max: int
    """Most at once."""
    depth_max: int
    """Deepest nesting of a message."""
    values_max: int
    """Most values in a message."""
    faults_max: int
    """Most texts that are no message."""
    new_request_id: Callable[[], str]
    running: dict[str, Generation] = field(default_factory=dict)
    """By the client's id."""
    num_faults: int = 0
    """Texts so far that were no message."""

    def receive(self, text: str) -> Begin | Leave | Refuse | Say | None:
        """What a client's message asks for; None for one that asks for nothing any more.

        Raises `InvalidRequest` for a text that is no message, where there were as many before as may be.
        """
        try:
            return self._understood(text)
        except InvalidRequest as fault:
            self.num_faults += 1
            if self.num_faults > self.faults_max:
                raise
            request_id = self.new_request_id()
            return Refuse(fault_text(fault, request_id), request_id, fault)

    def events(self, generation: Generation, message: bytes) -> str | None:
        """What to tell of a serialised `GenerateResponse`; None for one without events."""
        _require(generation.state is not State.ENDED, "an event after the end", generation)
        events = inference_pb2.GenerateResponse.FromString(message).events
        for event in events:
            if event.HasField("started"):
                generation.resume_token = event.started.resume_token
            elif event.HasField("migrated"):
                generation.resume_token = event.migrated.resume_token
        return events_text(generation.id, events) if events else None

    def end(self, generation: Generation, error: LeptonError | None) -> str:
        """The last word on a generation: it is whole, or what went wrong."""
        _require(generation.state is not State.ENDED, "a second end", generation)
        generation.state = State.ENDED
        del self.running[generation.id]
        if error is None:
            return end_text(generation.id)
        return error_text(generation.id, error, generation.request_id)

    def _understood(self, text: str) -> Begin | Leave | Refuse | Say | None:
        """Raises `InvalidRequest` where no generation could be told what is wrong."""
        said = read_envelope(text, depth_max=self.depth_max, values_max=self.values_max)
        if said.type == "ping":
            return Say(PONG)
        known = self.running.get(said.id)
        if said.type == "cancel":
            if known is None or known.state is State.LEFT:
                return None  # it has ended, and the message that says so is on its way
            known.state = State.LEFT
            return Leave(known)
        if known is not None:
            raise InvalidRequest(
                "the id belongs to a generation that has not ended; take another one", field="id"
            )
        return self._begin(said)

    def _begin(self, said: Envelope) -> Begin | Refuse:
        request_id = self.new_request_id()
        try:
            if len(self.running) >= self.generations_max:
                raise Overloaded(
                    f"{self.generations_max} generations run on this socket, as many as may "
                    "(setting gateway.socket_generations_max); wait for one to end",
                    reason=Reason.CALLER_QUEUE_FULL,
                    retry_after_s=_RETRY_S,
                )
            request = read_request(said)
            timeout_s = read_timeout(said)
        except LeptonError as refusal:
            return Refuse(error_text(said.id, refusal, request_id), request_id, refusal)
        if not request.request_id:
            request.request_id = request_id
        elif is_request_id(request.request_id):
            request_id = request.request_id
        generation = Generation(id=said.id, request_id=request_id)
        self.running[said.id] = generation
        return Begin(generation, request, timeout_s)


def _require(holds: bool, fault: str, generation: Generation) -> None:  # noqa: FBT001
    if not holds:
        raise RuntimeError(f"{fault}: {generation}")
