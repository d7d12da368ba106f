"""How long tests wait for what must come."""

from __future__ import annotations

from typing import Final

__all__ = ["PATIENCE_S"]

PATIENCE_S: Final = 60.0
"""Seconds. Every wait ends as soon as what it waits for is there: only a failure takes so long, and a busy machine is
no failure. A test that is about being quick has a bound of its own.
"""
