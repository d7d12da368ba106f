"""A registry without a server: a directory on one machine that all processes see.

    <dir>/<id>.lock   locked by the worker process while it lives; free = dead, at once, also after kill -9
    <dir>/<id>.json   its value, replaced by rename; it counts only while the lock is held

Workers look after their two files and watchers read the directory every `poll_s`. The calls are few, small and on a
local disk, so they are made on the event loop: a thread would outlive a cancelled waiter and write after `close`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Final, final

from common.clock import Clock
from common.discovery.api import Instance, Snapshot
from common.discovery.background import Background
from common.discovery.codec import VALUE_BYTES_MAX, BadValue, check_id, decode, encode
from common.discovery.lock_file import LockFile, is_held
from common.discovery.picture import Picture
from common.discovery.problems import ProblemLog
from common.errors import Conflict, Reason
from common.logs import get_logger

__all__ = ["DirectoryRegistrar", "DirectoryWatcher"]

_CLAIM_TRIES: Final = 10
_CLAIM_WAIT_S: Final = 0.02
"""Watchers look at a lock by taking it for an instant: a free id may seem taken once, hardly twice."""

log = get_logger(__name__)


@final
class DirectoryRegistrar:
    """See `Registrar`."""

    def __init__(self, directory: Path, clock: Clock, *, poll_s: float) -> None:
        self._directory = directory
        self._clock = clock
        self._poll_s = poll_s

    async def register(self, instance: Instance) -> _DirectoryRegistration:
        """See `Registrar.register`."""
        encode(instance)
        files = _Files(self._directory, check_id(instance.id))
        for attempt in range(_CLAIM_TRIES):
            if attempt:
                await self._clock.sleep(_CLAIM_WAIT_S)
            try:
                if files.announce(encode(instance)):
                    _sweep(self._directory)
                    break
            except OSError as error:
                log.warning(
                    "discovery.unreachable", registry=str(self._directory), error=str(error)
                )
                break
        else:
            raise Conflict(
                f"worker id {instance.id} is taken by a live worker{_whereabouts(files.value)}; "
                "give this one another id or stop that one",
                reason=Reason.WORKER_ID_TAKEN,
            )
        return _DirectoryRegistration(files, instance, self._clock, self._poll_s)


@final
class _DirectoryRegistration:
    """See `Registration`."""

    def __init__(self, files: _Files, instance: Instance, clock: Clock, poll_s: float) -> None:
        self._files = files
        self._instance = instance
        self._clock = clock
        self._poll_s = poll_s
        self._announced = files.stand(encode(instance))
        self._tending = Background(self._tend(), name=f"discovery-{instance.id}")

    @property
    def announced(self) -> bool:
        """See `Registration.announced`."""
        return self._announced

    async def update(self, instance: Instance) -> None:
        """See `Registration.update`."""
        encode(instance)
        self._instance = instance
        self._announce()

    async def close(self) -> None:
        """See `Registration.close`."""
        try:
            await self._tending.close()
        finally:
            self._announced = False
            self._files.remove()

    async def _tend(self) -> None:
        """Puts the files back when someone removed or replaced them."""
        while True:
            await self._clock.sleep(self._poll_s)
            if not self._files.stand(encode(self._instance)):
                self._announce()

    def _announce(self) -> None:
        before, problem = self._announced, "another worker holds the id"
        try:
            self._announced = self._files.announce(encode(self._instance))
        except OSError as error:
            self._announced, problem = False, str(error)
        if self._announced and not before:
            log.info("discovery.announced", worker_id=self._instance.id)
        elif before and not self._announced:
            log.error("discovery.announcement_lost", worker_id=self._instance.id, error=problem)


@final
class DirectoryWatcher:
    """See `Watcher`."""

    def __init__(self, directory: Path, clock: Clock, *, poll_s: float) -> None:
        self._directory = directory
        self._clock = clock
        self._poll_s = poll_s

    async def snapshots(self) -> AsyncGenerator[Snapshot]:
        """See `Watcher.snapshots`."""
        picture, problems = Picture(), ProblemLog()
        known, stale = False, False
        while True:
            try:
                values = self._list(create=not known)
            except OSError as error:
                if not stale:
                    log.warning(
                        "discovery.unreachable", registry=str(self._directory), error=str(error)
                    )
                changed, stale = known and not stale, True
            else:
                changed = picture.replace(values, revision=1) or stale or not known
                known, stale = True, False
            if changed:
                snapshot = picture.snapshot(stale=stale)
                problems.tell(snapshot.problems)
                yield snapshot
            await self._clock.sleep(self._poll_s)

    def _list(self, *, create: bool) -> dict[str, bytes]:
        """Id → value of all that count. The directory is made once; if it vanishes later, the registry is lost."""
        if create:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return {
            files.worker_id: value
            for files in _all_files(self._directory)
            if (value := files.value) is not None and (files.held or not files.is_worker(value))
        }


@final
class _Files:
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
        """Whether a living process holds the id. Never raises."""
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


def _all_files(directory: Path) -> Iterator[_Files]:
    """Of every regular `<id>.json`; a link, a pipe or a folder of that name is passed over."""
    with os.scandir(directory) as entries:
        for entry in entries:
            worker_id = entry.name.removesuffix(".json")
            if (
                worker_id != entry.name
                and not entry.name.startswith(".")
                and entry.is_file(follow_symlinks=False)
            ):
                yield _Files(directory, worker_id)


def _sweep(directory: Path) -> None:
    """Removes the files of dead workers, so that a directory does not grow with every restart."""
    for files in list(_all_files(directory)):
        value = files.value
        if value is not None and not files.held and files.is_worker(value):
            files.remove_if_dead()


def _whereabouts(value: bytes | None) -> str:
    try:
        return f" at {decode(value or b'').address}"
    except BadValue:
        return ""
