"""All endpoints at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from router.core.endpoint import Endpoint

__all__ = ["PoolSnapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSnapshot:
    """Immutable; policies and reports read it and nothing else."""

    models: Mapping[str, Sequence[Endpoint]] = field(default_factory=dict)
    """By model name: every endpoint, in every state, in order of arrival. The pool's own are `Candidates`."""
    stale_since: float | None = None
    """Since when the registry is away (router's clock, seconds) and membership is what it said last; None while it is
    there.
    """

    @property
    def stale(self) -> bool:
        """Whether the registry is away."""
        return self.stale_since is not None

    def __len__(self) -> int:
        return sum(len(endpoints) for endpoints in self.models.values())
