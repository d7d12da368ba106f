"""What goes into the reading of tools and what comes out of it: plain values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

__all__ = [
    "ArgumentsDelta",
    "CallBegun",
    "CallEnded",
    "OutputParser",
    "Piece",
    "ReasoningDelta",
    "TextDelta",
    "ToolChoice",
    "ToolMode",
    "ToolSpec",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A function that the model may ask its caller to call."""

    name: str
    description: str = ""
    parameters: Any = None
    """JSON schema of the arguments, read; None: no arguments."""
    strict: bool = False
    """Whether arguments follow `parameters` to the letter, always."""


class ToolMode(StrEnum):
    """How much say the model has."""

    NONE = "none"
    """It is not shown any tools."""
    AUTO = "auto"
    """It calls tools or answers, as it likes."""
    REQUIRED = "required"
    """It calls at least one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """What the caller wants to happen."""

    mode: ToolMode = ToolMode.AUTO
    name: str = ""
    """With REQUIRED: this function, and exactly one call."""
    parallel: bool = True
    """Whether one answer may hold several calls."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of what the model says."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegun:
    """A call, its arguments follow."""

    index: int
    """0, 1, 2, … within the answer."""
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsDelta:
    """More of the JSON text of the arguments."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """No more of a call."""

    index: int
    is_whole: bool
    """Whether its arguments are one JSON object. Else the answer was cut, or broke, inside them."""


Piece = TextDelta | ReasoningDelta | CallBegun | ArgumentsDelta | CallEnded


class OutputParser(Protocol):
    """The text of one choice → pieces, the same ones (joined) however it is cut. Never raises: what is no call is text.

    Linear time; memory is bounded, whatever the text.
    """

    @property
    def num_calls(self) -> int:
        """Calls begun so far."""
        ...

    def feed(self, text: str) -> list[Piece]:
        """What became certain with this text."""
        ...

    def finish(self) -> list[Piece]:
        """What was held back; called once, at the end of the choice."""
        ...
