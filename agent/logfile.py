"""What a process wrote, in a file that cannot grow without end."""

from __future__ import annotations

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
        self._file = path.open("ab")
        self._size = self._file.tell()

    def write(self, line: bytes) -> None:
        """Adds one line (without its end) and flushes, so that `tail -f` shows it at once."""
        if self._size and self._size + len(line) >= self._bytes_max:
            self._file.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._path.open("ab")
            self._size = 0
        self._file.write(line + b"\n")
        self._file.flush()
        self._size += len(line) + 1

    def close(self) -> None:
        """Nothing is written afterwards."""
        self._file.close()
