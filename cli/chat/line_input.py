"""What the user types: lines with editing and a history, and texts of several lines.

A line that ends with a backslash goes on in the next one; a text between two \"\"\" holds as many as it likes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

__all__ = ["editing", "read_text"]

_LINES_MAX: Final = 1000
"""Most lines in the history."""
_TEXT_CHARS_MAX: Final = 1 << 20
_QUOTES: Final = '"""'


def read_text(read_line: Callable[[bool], str]) -> str:
    """The next text, without the marks that made it one.

    `read_line(goes_on)` gives a line without its newline and raises `EOFError` at the end; so does this, unless some of
    the text was there.
    """
    line = read_line(False)  # noqa: FBT003 - a callback's one argument
    if line.lstrip().startswith(_QUOTES):
        return _quoted(line.lstrip().removeprefix(_QUOTES), read_line)
    lines: list[str] = []
    while line.endswith("\\") and _length(lines) < _TEXT_CHARS_MAX:
        lines.append(line[:-1])
        try:
            line = read_line(True)  # noqa: FBT003
        except EOFError:
            line = ""
    return "\n".join([*lines, line]).strip()


def _quoted(first: str, read_line: Callable[[bool], str]) -> str:
    lines: list[str] = []
    line = first
    while not line.rstrip().endswith(_QUOTES) and _length(lines) < _TEXT_CHARS_MAX:
        lines.append(line)
        try:
            line = read_line(True)  # noqa: FBT003
        except EOFError:
            line = ""
            break
    lines.append(line.rstrip().removesuffix(_QUOTES))
    return "\n".join(lines).strip("\n")


def _length(lines: list[str]) -> int:
    return sum(len(line) for line in lines)


@contextlib.contextmanager
def editing(history: Path | None) -> Iterator[None]:
    """`input()` with line editing, and with the lines of earlier chats from `history` (None: without).

    The file is its owner's alone, and bounded. A Python without readline, or a disk that fails, costs only this.
    """
    readline = _readline()
    if readline is None or history is None:
        yield
        return
    readline.clear_history()
    with contextlib.suppress(OSError, UnicodeError):
        readline.read_history_file(str(history))
    readline.set_history_length(_LINES_MAX)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(history, os.O_CREAT | os.O_WRONLY, 0o600))
            readline.write_history_file(str(history))
            history.chmod(0o600)


def _readline() -> ModuleType | None:
    try:
        import readline
    except ImportError:
        return None
    return readline
