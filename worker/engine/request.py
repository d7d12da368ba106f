"""What the edge hands to the engine: parsed, resolved, tokenized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from worker.engine.grammar import Grammar
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import StopRule

__all__ = ["EngineRequest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """One prompt and how often and how far to complete it."""

    prompt_ids: tuple[int, ...]
    """At least one id, each below the vocabulary size; with `stop.max_tokens` it fits into the context."""
    sampling: SamplingParams
    stop: StopRule
    grammar: Grammar | None = None
    """What each choice must follow; None: nothing."""
    n: int = 1
    """Choices; each becomes a sequence of its own and draws its own tokens."""
    salt: bytes | None = b""
    """Beginnings are shared with requests of the same salt; None shares nothing."""
    marks: tuple[tuple[int, int], ...] = ()
    """(number of prompt tokens, hash by which routers know that beginning), shortest first."""
    priority: int = 0
    """Higher goes first; few different values (each is a band of the waiting queue)."""
    deadline: float | None = None
    """On the engine's clock, seconds; None waits for ever."""
    start_by: float | None = None
    """On the same clock: refused when none of its choices has a slot by then; None waits until the deadline."""
    known_ids: Mapping[int, tuple[int, ...]] | None = None
    """Of a request that another worker began: choice → how its completion begins there; choices that ended are left
    out. Refused neither for a full queue nor for `start_by`. None: nobody began it."""

    @property
    def is_continued(self) -> bool:
        return self.known_ids is not None

    @property
    def choices(self) -> tuple[int, ...]:
        """Those to compute, ascending."""
        return tuple(range(self.n)) if self.known_ids is None else tuple(sorted(self.known_ids))
