"""Where output goes: answers to stdout, everything about them to stderr, JSON one object a line."""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from typing import Any, Final

from rich.console import Console
from rich.text import Text

__all__ = ["cell", "err", "marks", "out", "printable", "write", "write_json"]

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@cache
def out() -> Console:
    """For tables and pictures on stdout."""
    return Console(highlight=False)


@cache
def err() -> Console:
    """For everything that is not the answer itself."""
    return Console(stderr=True, highlight=False)


def write(text: str) -> None:
    """Part of an answer, at once. A terminal gets no control characters: a model must not be able to drive it."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def write_json(value: Any) -> None:
    """One line of JSON on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")) + "\n")
    sys.stdout.flush()


def printable(text: str) -> str:
    """`text` without control characters other than tab and newline."""
    return _CONTROL.sub("", text)


def cell(text: str, style: str = "") -> Text:
    """What a peer, a file or a process said, to be shown: neither escape codes nor markup in it mean anything."""
    return Text(printable(text), style=style)


def marks(console: Console) -> tuple[str, str, str]:
    """Signs for done, failed and "one of several", as far as the terminal can show them."""
    fancy = console.encoding.lower().startswith("utf")
    return ("✓", "✗", "·") if fancy else ("ok", "!!", "-")
