"""What a call has been through, as far as it decides where it goes next."""

from __future__ import annotations

from dataclasses import dataclass, field

from common.errors import LeptonError
from common.request.migration import Moves
from router.core.endpoint import Endpoint
from router.core.suspect import Suspect

__all__ = ["Journey", "Origin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a stream that has begun comes from: its revision is a must, its fingerprint a wish."""

    worker_id: str
    model: str
    revision: str
    fingerprint: str

    @staticmethod
    def of(endpoint: Endpoint) -> Origin:
        """A stream that was on `endpoint`."""
        return Origin(
            worker_id=endpoint.id,
            model=endpoint.model,
            revision=endpoint.revision,
            fingerprint=endpoint.fingerprint,
        )


@dataclass(slots=True, kw_only=True)
class Journey:
    """Owned by one call; filled by the dispatcher."""

    tried: set[tuple[str, str]] = field(default_factory=set)
    """(id, incarnation) of endpoints on which it has failed."""
    declined: set[tuple[str, str]] = field(default_factory=set)
    """Of these, the ones that would not go on with the stream, broke its rules, or were given up."""
    failure: LeptonError | None = None
    """Why it left the last endpoint; told to the client when there is no next one."""
    may_wait: bool = True
    """Whether it is worth waiting for an endpoint when no other one is ready."""
    origin: Origin | None = None
    """Set when a stream is to go on."""
    moves: Moves = field(default_factory=Moves)
    """Since the stream began."""
    suspect: Suspect | None = None
    """Set while the call is under suspicion of having ended a worker."""
