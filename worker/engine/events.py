"""What the engine tells the reader of a stream.

    ScheduledEvent?  ReplayedEvent?  TokenEvent*  (EndEvent | FailedEvent)        per choice, in this order

Every accepted choice ends in exactly one `EndEvent` or `FailedEvent`. All times are seconds on the engine's clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from common.errors import LeptonError
from worker.engine.ports import TopLogprob
from worker.engine.sequence import FinishReason

__all__ = [
    "EndEvent",
    "Event",
    "FailedEvent",
    "ReplayedEvent",
    "ScheduledEvent",
    "TokenEvent",
    "is_terminal",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledEvent:
    """The choice got a slot and its first chunk is about to run. Missing when it ended while it waited."""

    choice: int
    num_cached_tokens: int
    """Prompt tokens that came from the prefix cache and are not computed."""
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedEvent:
    """The tokens that were known were decoded and drawn once more. Missing where they were computed as a prompt."""

    choice: int
    num_mismatches: int
    """How many draws were not what the other worker had drawn."""
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEvent:
    """One token of the completion. A token that ends the choice (eos, stop id) comes as such an event, too."""

    choice: int
    token_id: int
    logprob: float | None
    """Of this token, natural logarithm; None when the request did not ask."""
    top: tuple[TopLogprob, ...]
    """The most likely tokens, best first; empty when the request did not ask."""
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EndEvent:
    """The choice ended by itself. Last of its choice."""

    choice: int
    reason: FinishReason
    stop_token_id: int | None
    """The eos or stop id that ended it, which was the token before; None when `reason` is LENGTH, and when the grammar
    is complete: then the token before is part of the answer."""
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedEvent:
    """The choice was ended: aborted (`Cancelled`), too late (`DeadlineExceeded`), or failed. Last of its choice."""

    choice: int
    error: LeptonError
    at: float


Event: TypeAlias = ScheduledEvent | ReplayedEvent | TokenEvent | EndEvent | FailedEvent


def is_terminal(event: Event) -> bool:
    """Whether nothing follows for this choice."""
    return isinstance(event, EndEvent | FailedEvent)
