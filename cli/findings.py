"""What a check of `lepton doctor` may look at, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from agent.state import StateDir

__all__ = ["Check", "Finding", "Verdict"]


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """Works, but somebody should know."""
    FAIL = "fail"
    """Something will not work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found."""

    name: str
    verdict: Verdict
    detail: str
    advice: str = ""
    """What to do; empty when there is nothing to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What checks may look at."""

    env: Mapping[str, str]
    state: StateDir
