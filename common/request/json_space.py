"""How much white space an answer in JSON may hold in one place, wherever its grammar is written.

In a module of its own: a process that tries a grammar out imports it, and should start quickly.
"""

from __future__ import annotations

from typing import Final

__all__ = ["JSON_SPACE_MAX"]

JSON_SPACE_MAX: Final = 24
"""Characters: room for a line break and an indent, but an end to it."""
