"""One holder, until it lets go. (tests/contract/test_discovery.py kills one.)"""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest

from common.discovery.lock_file import LockFile, is_held


def take(path: Path) -> LockFile:
    lock = LockFile.take(path)
    assert lock is not None
    return lock


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "w1.lock"
    assert not is_held(path)
    lock = take(path)
    assert is_held(path)
    assert LockFile.take(path) is None
    lock.remove()
    assert not path.exists()
    assert not is_held(path)
    take(path).release()
    assert path.exists()
    assert not is_held(path)


def test_looking_does_not_take(tmp_path: Path) -> None:
    path = tmp_path / "w1.lock"
    take(path).release()
    assert not is_held(path)
    take(path).release()


def test_a_lock_whose_file_was_removed_or_replaced_no_longer_stands(tmp_path: Path) -> None:
    path = tmp_path / "w1.lock"
    first = take(path)
    assert first.stands()
    path.unlink()
    assert not first.stands()
    second = take(path)
    assert second.stands()
    assert not first.stands()
    first.remove()  # leaves the other's file alone
    assert second.stands()
    second.release()


def test_a_file_removed_as_it_is_taken_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last holder leaves between our open and our lock: the lock we get is on a file that nobody else will find."""
    path = tmp_path / "w1.lock"
    flock, left = fcntl.flock, []

    def flock_as_the_holder_leaves(descriptor: int, operation: int) -> None:
        if not left:
            left.append(path.unlink())
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_as_the_holder_leaves)
    lock = take(path)
    assert left
    assert lock.stands()
    assert LockFile.take(path) is None
    lock.release()


def test_a_directory_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        LockFile.take(tmp_path / "nowhere" / "w1.lock")


def test_a_file_system_without_locks_costs_no_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers try again every half second, for as long as they live."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = _num_open()
    for _ in range(5):
        with pytest.raises(OSError, match="no locks here"):
            LockFile.take(tmp_path / "w1.lock")
        with pytest.raises(OSError, match="no locks here"):
            is_held(tmp_path / "w1.lock")
    assert _num_open() == before


def _num_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
