"""What the agent tells whoever shows it: one value per thing that happened, in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Notice", "Notify", "Stage"]


class Stage(StrEnum):
    """What happened to a process."""

    STARTING = "starting"
    READY = "ready"
    ENDED = "ended"
    """It died and starts again after `delay_s`."""
    GIVEN_UP = "given_up"
    STOPPING = "stopping"
    STOPPED = "stopped"
    OUTPUT = "output"
    """It wrote a line: `text`."""
    NOTE = "note"
    """Nothing happened to it, but people should know `text`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing that happened."""

    name: str
    """Process: "etcd", "w1", "router"."""
    stage: Stage
    text: str = ""
    """Why, or what it wrote; for people."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What a ready process said of itself: address, metrics_address, …"""
    took_s: float | None = None
    """From its start to being ready, seconds."""
    delay_s: float | None = None
    """Until it starts again, seconds."""


Notify = Callable[[Notice], None]
"""Called on the event loop; must not block."""
