"""What one worker has in a registry directory: a lock file and a JSON file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import final

from common.discovery.codec import VALUE_BYTES_MAX, BadValue, decode
from common.discovery.lock_file import LockFile, is_held
from common.logs import get_logger

__all__ = ["WorkerFiles", "files_in", "sweep"]

log = get_logger(__name__)


@final
class WorkerFiles:
    """The two files of one worker id. Every method may raise `OSError`, except where it says otherwise."""

    def __init__(self, directory: Path, worker_id: str) -> None:
        self.worker_id = worker_id
        self._json = directory / f"{worker_id}.json"
        self._lock_path = directory / f"{worker_id}.lock"
        self._temporary = directory / f".{worker_id}.tmp"
        self._lock: LockFile | None = None

    @property
    def value(self) -> bytes | None:
        """What the JSON file holds, at most a byte more than is allowed; b"" when unreadable, None when not there."""
        try:
            with self._json.open("rb") as file:
                return file.read(VALUE_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError:
            return b""

    @property
    def held(self) -> bool:
        """Whether a living process holds the id."""
        return is_held(self._lock_path)

    def announce(self, value: bytes) -> bool:
        """Takes the lock, unless this object has it, and writes the value; False when another holds the lock."""
        if self._lock is not None and not self._lock.stands():
            self._lock.release()
            self._lock = None
        if self._lock is None:
            self._json.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = LockFile.take(self._lock_path)
        if self._lock is None:
            return False
        self._temporary.write_bytes(value)
        self._temporary.replace(self._json)
        return True

    def stand(self, value: bytes) -> bool:
        """Whether the lock is ours and the value as given. Never raises."""
        return self._lock is not None and self._lock.stands() and self.value == value

    def is_worker(self, value: bytes) -> bool:
        """Whether the value is one that a worker of this id wrote. Never raises."""
        try:
            return decode(value).id == self.worker_id
        except BadValue:
            return False

    def remove(self) -> None:
        """Removes both files, when they are ours. Never raises."""
        if self._lock is None:
            return
        lock, self._lock = self._lock, None
        try:
            if lock.stands():
                self._json.unlink(missing_ok=True)
            lock.remove()
        except OSError as error:
            log.warning("discovery.removal_failed", worker_id=self.worker_id, error=str(error))

    def remove_if_dead(self) -> None:
        """Removes what a dead worker left. Never raises."""
        try:
            self._lock = LockFile.take(self._lock_path)
        except OSError:
            return
        self.remove()


def files_in(directory: Path) -> Iterator[WorkerFiles]:
    """Of every regular `<id>.json`; a link, a pipe or a folder of that name is passed over."""
    with os.scandir(directory) as entries:
        for entry in entries:
            worker_id = entry.name.removesuffix(".json")
            if (
                worker_id != entry.name
                and not entry.name.startswith(".")
                and entry.is_file(follow_symlinks=False)
            ):
                yield WorkerFiles(directory, worker_id)


def sweep(directory: Path) -> None:
    """Removes the files of dead workers, so that a directory does not grow with every restart."""
    for files in list(files_in(directory)):
        value = files.value
        if value is not None and not files.held and files.is_worker(value):
            files.remove_if_dead()
