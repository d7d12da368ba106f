"""A file that is locked for as long as its process lives: the kernel lets go when it dies, however it dies.

`flock` needs no clock and no heartbeat: a stopped machine clock, a jump in time or a suspended process never make
a living worker look dead. It works between processes of one machine (containers that share the directory included).
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final, final

__all__ = ["LockFile", "is_held"]

_TRIES: Final = 8
"""How often a lock file may be removed by its last holder just as we take it."""

_FLAGS: Final = os.O_CLOEXEC | os.O_NONBLOCK
"""Not for children, which would hold the lock on; and no wait where someone put a pipe."""


@final
class LockFile:
    """A held lock. Never blocks.

    A holder removes its file when it leaves. So whoever takes the lock makes sure that the file it locked is the one
    that stands in the directory; otherwise two processes could hold 'the' lock on two files.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> LockFile | None:
        """The lock, or None when another holds it. Raises `OSError` when the file cannot be made or locked."""
        for _ in range(_TRIES):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            except BaseException:  # a file system without locks
                os.close(descriptor)
                raise
            lock = cls(path, descriptor)
            if lock.stands():
                return lock
            os.close(descriptor)
        return None

    def stands(self) -> bool:
        """Whether the locked file is still the one at its path."""
        try:
            there = self._path.stat()
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self._descriptor))

    def remove(self) -> None:
        """Removes the file and lets go."""
        try:
            if self.stands():
                self._path.unlink(missing_ok=True)
        finally:
            self.release()

    def release(self) -> None:
        """Lets go and leaves the file, as a process that dies does."""
        os.close(self._descriptor)


def is_held(path: Path) -> bool:
    """Whether some process holds the lock. Takes a shared lock for an instant, so a `take` at that instant fails.

    Raises `OSError` where the file system has no locks.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
