"""The lines of a batch file, one after the other: whatever their number and length, memory holds one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["LINE_BYTES_MAX", "Line", "Size", "measure", "read_lines"]

LINE_BYTES_MAX: Final = 8 << 20
"""Longest line, bytes: as much as an HTTP door takes as a body (`gateway.body_bytes_max`)."""

_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line that is not empty."""

    number: int
    """From 1, empty lines counted."""
    data: bytes | None
    """Without the newline; None when it is longer than `bytes_max`."""
    bytes_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of a whole file."""

    rows: int
    """Lines that are not empty."""
    last: int
    """Number of the last of them; 0 when there is none."""


def read_lines(path: Path, *, bytes_max: int = LINE_BYTES_MAX) -> Iterator[Line]:
    """The lines that are not empty, in order. Raises `OSError`."""
    with path.open("rb") as file:
        number = 0
        while data := file.readline(bytes_max + 1):
            number += 1
            if len(data) > bytes_max and not data.endswith(b"\n"):
                while (rest := file.readline(_BLOCK_BYTES)) and not rest.endswith(b"\n"):
                    pass
                yield Line(number=number, data=None, bytes_max=bytes_max)
            elif data.strip():
                yield Line(number=number, data=data.rstrip(b"\r\n"), bytes_max=bytes_max)


def measure(path: Path) -> Size:
    """How much `read_lines` will give. Raises `OSError`."""
    rows = last = 0
    for line in read_lines(path):
        rows, last = rows + 1, line.number
    return Size(rows=rows, last=last)
