"""A fault that was done."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Injection"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """One fault."""

    at: float
    """Clock of the run, seconds."""
    what: str
    victims: tuple[str, ...]
    """Worker ids."""
    in_flight: int
    """Requests at that moment."""
    hit: int
    """Of these, how many were with a victim."""
