"""What the core of a call asks its surroundings to do, and what it is told back.

The core is a generator: it yields steps and is sent replies. It opens no connection, reads no clock but the one it is
given, and never waits, so that the blocking and the asynchronous client share every decision.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf.message import Message

from lepton.v1 import inference_pb2
from lepton_client.errors import LeptonError

__all__ = [
    "Answered",
    "Close",
    "Core",
    "Ended",
    "Failed",
    "Give",
    "Open",
    "Pairs",
    "Pause",
    "Read",
    "Reply",
    "Step",
    "Unary",
]

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """Begin a Generate at an address. Reply: none; a failure shows at the first `Read`."""

    address: str
    request: inference_pb2.GenerateRequest
    metadata: Pairs
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """The next message of the open stream. Reply: `Answered`, `Ended` or `Failed`."""

    silence_s: float | None = None
    """Longer than that is `Failed`, as a lost connection."""


@dataclass(
    slots=True
)  # not frozen, as there is one for each message: that would cost half a microsecond
class Give:
    """Events for whoever iterates. Reply: none."""

    events: tuple[inference_pb2.Event, ...]


@dataclass(frozen=True, slots=True)
class Close:
    """Give the open stream up. Reply: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unary:
    """A call of one message each way. Reply: `Answered` or `Failed`."""

    address: str
    method: str
    """Of `InferenceService`."""
    request: Message
    metadata: Pairs
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds. Reply: none."""

    seconds: float


@dataclass(slots=True)  # likewise
class Answered:
    """A message came."""

    message: Any


@dataclass(frozen=True, slots=True)
class Ended:
    """The stream ended with status OK."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The call ended with an error."""

    error: LeptonError


Step: TypeAlias = Open | Read | Give | Close | Unary | Pause
Reply: TypeAlias = Answered | Ended | Failed | None
Core: TypeAlias = Generator[Step, Reply, Any]
