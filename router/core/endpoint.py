"""A worker as the router sees it: what it is, what it reports, what we sent it since."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

__all__ = ["Endpoint", "EndpointState", "Load", "TicketCounts"]


class EndpointState(Enum):
    """Whether new calls may go there."""

    CONNECTING = auto()
    """Known to discovery; its load stream has not spoken yet."""
    READY = auto()
    SUSPECT = auto()
    """Silent, or its step is late, for a moment: nothing new goes there, what runs there runs on."""
    EJECTED = auto()
    """It lives but fails too often or is far too slow: set aside, until it answers a probe."""
    DRAINING = auto()
    """Finishes what it has, accepts nothing."""
    LOST = auto()
    """Its load stream broke, or it was a suspect for too long; kept for hold-down, not picked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketCounts:
    """How calls with our tickets have fared on a worker since its start."""

    taken: int = 0
    ended: int = 0
    """Of those taken."""
    completed: int = 0
    """Of those that ended: with the whole answer."""
    proved: int = 0
    """Calls on probation that have produced something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a worker reported last."""

    step: int = 0
    running: int = 0
    waiting: int = 0
    rows_max: int = 1
    waiting_tokens: int = 0
    kv_usage: float = 0.0
    in_flight_of_router: int = 0
    """How many of our calls that report already counts, those with a ticket included."""
    received_at: float = 0.0
    """On the router's clock, seconds."""
    step_ends_in_ms: int | None = None
    """When the running step should end, 0 when it is late; None while nothing is to do."""
    step_ms: float = 0.0
    """Length of recent steps, milliseconds; this and the next are 0 until measured."""
    prefill_tokens_per_s: float = 0.0
    decode_tokens_per_s: float = 0.0
    """How fast one sequence gets its tokens, among `decode_rows`."""
    decode_rows: int = 0
    tickets: TicketCounts = TicketCounts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Immutable picture of one worker; policies score it."""

    id: str
    incarnation: str
    address: str
    model: str
    revision: str
    tasks: tuple[str, ...]
    context_length: int
    vocab_size: int
    fingerprint: str
    state: EndpointState
    load: Load
    tool_format: str = ""
    """How its model writes calls of tools; empty when it knows none."""
    in_flight: int = 0
    """Calls of this router that it has not finished, those that clients were sent there with included."""
    trouble: str = ""
    """Why it is SUSPECT, EJECTED or LOST, for people."""
    idle_s: float = 0.0
    """How long its step counter had stood still at the last report: its speeds are that old."""
    warmth: float = 1.0
    """Share of the traffic of its like that it should get: grows to 1 after a start or an ejection."""

    @property
    def unreported(self) -> int:
        """Calls sent since the last report, so that a burst does not pile onto one worker."""
        return max(0, self.in_flight - self.load.in_flight_of_router)

    @property
    def of_others(self) -> int:
        """Sequences there that did not come from this router, as reported last."""
        return max(0, self.load.running + self.load.waiting - self.load.in_flight_of_router)

    @property
    def sequences(self) -> int:
        """Sequences that run or wait there: of others as reported, of ours as we know, so that a row counts as free in
        the moment in which our call ends and not with the next report.
        """
        return self.of_others + self.in_flight
