"""What happened to one call on its way: filled by the dispatcher, read by the surface for span, log and metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.core.endpoint import Endpoint
from router.core.policy.api import Choice

__all__ = ["Route"]


@dataclass(slots=True, kw_only=True)
class Route:
    """Owned by one call; times are on the router's clock, seconds."""

    started_at: float
    request_id: str = ""
    """Empty until the request is known to be one."""
    model: str = ""
    """As asked for; the real name once an endpoint is chosen."""
    deadline: float | None = None
    num_candidates: int = 0
    """Endpoints of the wanted model, in any state, at the last choice."""
    endpoint: Endpoint | None = None
    """The last one chosen."""
    choice: Choice | None = None
    """Why it was."""
    known_bytes: int = 0
    """Bytes of the prompt that are believed to be cached where it went last."""
    prompt_bytes: int = 0
    """What is hashed of the prompt, for affinity."""
    num_retries: int = 0
    """Moves before anything was sent."""
    num_migrations: int = 0
    """Moves after something was sent."""
    waited_s: float = 0.0
    """Time spent waiting for a worker to become ready."""
    queued_s: float = 0.0
    """Time spent in the router's queue."""
    is_stale: bool = False
    """The registry was away at the last choice."""
    snapshot_age_s: float = 0.0
    """Since when the registry was away then; 0 while it is there."""
    first_message_at: float | None = None
    num_messages: int = 0
    """Handed to the client's transport."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """(endpoint id, reason) of each failed attempt, in order: retries first, then migrations."""
    gaps_s: list[float] = field(default_factory=list)
    """Per migration that went on: from the loss to the next message."""
    stream_faults: list[str] = field(default_factory=list)
    """How workers broke the rules of this stream, in order; see `StreamFault.kind`."""
    is_convicted: bool = False
    """The call was called poison."""
