"""Why a grammar is refused: from llguidance's words to our reasons.

The version of llguidance is pinned exactly, as the reasons are read from its messages; a test holds the two together.
"""

from __future__ import annotations

import re
from typing import Final

from common.errors import InvalidRequest, Reason

__all__ = ["Refusal", "invalid", "refusal_of", "too_large", "unsupported"]

_UNSUPPORTED: Final = re.compile(
    r"not supported|unsupported|Unimplemented keys|Unknown format|not present in a registry"
)
_TOO_LARGE: Final = re.compile(
    r"too (?:large|big|many|complex|deep)|limit|exceed|fuel|Unable to determine|Current row has"
)
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'')
_QUOTED_CHARS_MAX: Final = 60
_POSITION: Final = re.compile(r"^(?:at )?\d+\(\d+\): ")
_MESSAGE_CHARS_MAX: Final = 300


class Refusal(Exception):
    """A grammar that will not be followed. Crosses processes as (reason, message)."""

    def __init__(self, reason: Reason, message: str, *, is_late: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message[:_MESSAGE_CHARS_MAX]
        self.is_late = is_late
        """Whether the clock decided, which may decide otherwise another time."""

    def error(self, field: str) -> InvalidRequest:
        """What the caller is told."""
        return InvalidRequest(self.message, reason=self.reason, field=field)


def invalid(message: str) -> Refusal:
    return Refusal(Reason.GRAMMAR_INVALID, message)


def unsupported(message: str) -> Refusal:
    return Refusal(Reason.GRAMMAR_UNSUPPORTED, f"not supported: {message}")


def too_large(message: str, *, is_late: bool = False) -> Refusal:
    return Refusal(
        Reason.GRAMMAR_TOO_LARGE, f"{message}; make the grammar simpler", is_late=is_late
    )


def refusal_of(said: str, *, keeps_lines: bool) -> Refusal:
    """From an error message of llguidance. Positions mean something only where a client's text `keeps_lines`."""
    lines = said.split("\n")
    message = lines[0].strip()
    # A regular expression is shown over several lines; what is wrong with it stands at the end.
    message += "".join(f" {line.strip()}" for line in lines[1:] if line.startswith("error:"))
    if not keeps_lines:
        message = _POSITION.sub("", message)
    message = _QUOTED.sub(_shortened, message)
    # What stands in quotes are a client's words, and might be ours by chance.
    words = _QUOTED.sub("", message)
    if words.startswith("NoExtension"):
        return invalid("no text follows it")
    if _UNSUPPORTED.search(words):
        return unsupported(message)
    return too_large(message) if _TOO_LARGE.search(words) else invalid(message)


def _shortened(quoted: re.Match[str]) -> str:
    text = quoted.group()
    return text if len(text) <= _QUOTED_CHARS_MAX else f"{text[: _QUOTED_CHARS_MAX - 2]}…{text[-1]}"
