"""How busy an engine is, at one moment."""

from __future__ import annotations

from dataclasses import dataclass

from worker.engine.speed import Speed

__all__ = ["EngineLoad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """What `lepton.v1.WatchLoadResponse` tells a router."""

    step: int
    """Steps since start; it stands still only while idle, or when something is wrong."""
    step_ends_in_ms: int | None
    """Milliseconds until the running step should end, 0 when it is late; None while idle."""
    running: int
    """Sequences with a slot."""
    waiting: int
    """Sequences without one."""
    rows_max: int
    """Most sequences with a slot."""
    waiting_tokens: int
    """Prompt tokens of those that wait."""
    kv_usage: float
    """Share of the KV slab that holds computed tokens, 0 to 1."""
    speed: Speed
    """As measured lately."""
