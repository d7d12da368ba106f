"""A cluster at one moment, as `lepton top` shows it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

__all__ = ["RouterLine", "TopPicture", "WorkerLine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLine:
    """One worker, as its router sees it (`GET /api/cluster`). None: not known, as in all fields below."""

    id: str
    model: str
    revision: str
    """Hex."""
    state: str
    """connecting, ready, suspect, ejected, draining or lost."""
    trouble: str
    """Why it is suspect, ejected or lost; else empty."""
    running: int
    """Sequences in its batch."""
    rows_max: int
    """Most of them."""
    waiting: int
    """Sequences that wait for a row."""
    kv_usage: float
    """Share of the KV cache in use, 0 to 1."""
    tokens_per_s: float
    """0 while it has nothing to do."""
    cached: float | None = None
    """Share of the prompt tokens since its start that came from the prefix cache, 0 to 1."""
    first_token_s: float | None = None
    """Mean time to the first token since its start, seconds."""
    generated: int | None = None
    """Tokens since its start."""
    errors: int | None = None
    """Calls since its start that ended in an error."""
    address: str | None = None
    """host:port of its gRPC service; known of workers of this machine."""
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterLine:
    """What the router counts. None: its metrics page is not known, or silent."""

    in_flight: int | None = None
    """Calls that it relays or has handed out."""
    queued: int | None = None
    """Calls that wait in it for a free row of a worker."""
    requests_per_s: float | None = None
    """Calls that ended, since the picture before."""
    refusals_per_s: float | None = None
    """Calls that were not admitted, likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopPicture:
    """All of it."""

    where: str
    """URL of the HTTP door that was asked."""
    at: float
    """Seconds since 1970."""
    router: RouterLine
    workers: tuple[WorkerLine, ...]
    """By model and id."""
    stale_s: float | None
    """How long the registry has been away, seconds; None while it is there."""

    @property
    def tokens_per_s(self) -> float:
        """Of all workers."""
        return sum(worker.tokens_per_s for worker in self.workers)

    @property
    def running(self) -> int:
        """Sequences in all batches."""
        return sum(worker.running for worker in self.workers)

    @property
    def waiting(self) -> int:
        """Sequences that wait in workers."""
        return sum(worker.waiting for worker in self.workers)

    @property
    def rows_max(self) -> int:
        """Most sequences at once."""
        return sum(worker.rows_max for worker in self.workers)

    def count(self, *states: str) -> int:
        """Workers in one of these states."""
        return sum(worker.state in states for worker in self.workers)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "at": self.at,
            "where": self.where,
            "router": dataclasses.asdict(self.router),
            "stale_s": self.stale_s,
            "tokens_per_s": round(self.tokens_per_s, 3),
            "running": self.running,
            "waiting": self.waiting,
            "rows_max": self.rows_max,
            "workers": [dataclasses.asdict(worker) for worker in self.workers],
        }
