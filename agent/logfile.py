"""What a process wrote, in a file that cannot grow without end."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import final

__all__ = ["LogFile"]


@final
class LogFile:
    """Appends lines; at `bytes_max` the file becomes `<name>.1` (replacing the one before) and a new one begins."""

    def __init__(self, path: Path, *, bytes_max: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)  # lines come whole: nothing to gather
        self._size = self._file.tell()

    def write(self, line: bytes) -> None:
        """Adds one line (given without its end); `tail -f` shows it at once.

        A disk that is full costs lines, never the process that wrote them.
        """
        with contextlib.suppress(OSError):
            self._write(line)

    def close(self) -> None:
        """Nothing is written afterwards."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _write(self, line: bytes) -> None:
        if self._size and self._size + len(line) >= self._bytes_max:
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            full, self._file = self._file, self._path.open("ab", buffering=0)
            full.close()  # last: if anything above failed, there is still a file to write to
            self._size = 0
        self._file.write(line + b"\n")
        self._size += len(line) + 1
