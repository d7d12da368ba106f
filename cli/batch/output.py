"""The output file: a line for every row that is done, in the order in which they are done.

{"id": "batch_req_17", "custom_id": "q-17", "response": {"status_code": 200, "request_id": "…", "body": {…}},
 "error": null}

The number in `id` is the line of the input. A line is appended with one write when its row is done, so a process that
is killed loses nothing that was done. The disk is told to keep it (fsync) once a second and at the end, so a machine
that loses power loses a second, and those rows are asked again. A last line without its end is cut off at the next
start.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self, final

from cli.batch.known import DoneRows
from cli.batch.result import RowResult, WrittenRow, read_result
from common.clock import Clock
from common.errors import Conflict, Reason

__all__ = ["OutputFile"]

_SYNC_S: Final = 1.0
_DRAFT_BYTES: Final = 1 << 20


@final
class OutputFile:
    """Held by one run at a time; use as a context manager. Everything raises `OSError` when the disk does not do it.

    Raises `Conflict(OUTPUT_EXISTS)` for a file that another run holds, or that no run on this input has made.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path.resolve()
        self._clock = clock
        self._end = 0
        """Where the last whole line ends."""
        self._last_line = 0
        self._synced_at = clock.now()

    def __enter__(self) -> Self:
        if self._path.exists() and not self._path.is_file():
            raise Conflict(f"{self._path} is no file", reason=Reason.OUTPUT_EXISTS)
        self._file = self._open_locked(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file:
            os.fsync(self._file)

    def read_done(self, last_line: int) -> DoneRows:
        """What earlier runs have done; cuts off a last line that has no end."""
        done = DoneRows(last_line)
        self._last_line = last_line
        self._end = 0
        for row, data in self._rows():
            if not done.add(row.line, row.custom_id, is_success=row.is_success):
                raise self._foreign(f"it has line {row.line} twice, or a longer input")
            self._end += len(data)
        self._file.truncate(self._end)
        return done

    def append(self, result: RowResult) -> None:
        """Writes a row that is done; when that fails, nothing of it is there."""
        data = result.encode()
        try:
            written = self._file.write(data)
            if written != len(data):  # a full disk takes a part first
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        except OSError:
            self._file.truncate(self._end)
            raise
        self._end += len(data)
        if self._clock.now() - self._synced_at >= _SYNC_S:
            os.fsync(self._file)
            self._synced_at = self._clock.now()

    def drop_failed(self) -> None:
        """Forgets the rows that did not succeed, so that they are asked again."""
        self._rewrite(data for row, data in self._rows() if row.is_success)

    def sort(self) -> None:
        """Brings the rows into the order of the input, after `read_done`. Needs 8 bytes of memory a row, and as much
        disk as the file.
        """
        places = array("Q", bytes(8 * (self._last_line + 1)))
        offset = 0
        for row, data in self._rows():
            places[row.line] = offset + 1
            offset += len(data)
        with self._path.open("rb") as file:
            self._rewrite(_line_at(file, place - 1) for place in places if place)

    def _rows(self) -> Iterator[tuple[WrittenRow, bytes]]:
        """Whole lines; with each what it says."""
        with self._path.open("rb") as file:
            for data in file:
                if not data.endswith(b"\n"):
                    return
                row = read_result(data)
                if row is None:
                    raise self._foreign("it holds lines of something else")
                yield row, data

    def _rewrite(self, lines: Iterator[bytes]) -> None:
        """Puts a file with `lines` in the place of ours at once; the lock goes with it."""
        path = self._path.with_name(self._path.name + ".new")
        draft = self._open_locked(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC)
        try:
            writer = io.BufferedWriter(draft, _DRAFT_BYTES)
            writer.writelines(lines)
            writer.flush()
            writer.detach()
            os.fsync(draft)
            path.replace(self._path)
        except BaseException:
            path.unlink(missing_ok=True)
            draft.close()
            raise
        self._file.close()
        self._file = draft

    def _open_locked(self, path: Path, flags: int) -> io.FileIO:
        def opener(name: str, _: int) -> int:
            return os.open(name, flags, 0o666)

        file = io.FileIO(str(path), "a+", opener=opener)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise Conflict(f"another run writes {path}", reason=Reason.OUTPUT_EXISTS) from None
        return file

    def _foreign(self, why: str) -> Conflict:
        return Conflict(
            f"{self._path} is no output for this input ({why}); choose another with --output",
            reason=Reason.OUTPUT_EXISTS,
        )


def _line_at(file: io.BufferedReader, offset: int) -> bytes:
    file.seek(offset)
    return file.readline()
