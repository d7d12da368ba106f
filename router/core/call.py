"""Everything that travels with one client request through the router."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Call", "RoutingView"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One client call."""

    request_id: str
    """The caller's, or made here; for logs and traces."""
    deadline: float
    """On the router's clock, seconds. Every call has one (`limits.deadline_s_max` if the caller has none)."""
    metadata: tuple[tuple[str, str], ...] = field(default=())
    """What goes to the worker beside the payload."""
    hides_token_ids: bool = False
    """The client asked for no token ids. The router needs them all the same, and takes them out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingView:
    """The little that policies may see of a request. The core treats the request itself as opaque bytes."""

    model: str
    """"" means: the only one."""
    revision: str = ""
    """"" means: any; else a prefix of at least 8 hex digits."""
    session_key: str = ""
    priority: int = 0
    task: str = "generate"
