"""What a format is: how an answer in it is read, and how a grammar says it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.tools.emitter import Emitter, IdOf, call_id
from gateway.tools.reader import Reader

__all__ = ["Format"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One way of writing calls. Everything is literal text of the answer."""

    name: str
    """As `ModelInfo.tool_format` says it."""
    reader: Callable[[Emitter], Reader]
    arguments_key: str = "arguments"
    """{"name": …, this: {…}}"""
    marker: str = ""
    """What the calls of an answer begin with, wherever that is; empty: calls are at its very beginning."""
    before: str = ""
    """Between marker and first call."""
    between: str = ""
    """Two calls."""
    after: str = ""
    """The last call."""
    forces: str = ""
    """The format that is forced in its place, which models can be held to by JSON schemas; empty: itself."""
    id_of: IdOf = call_id
