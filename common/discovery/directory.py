"""A registry without a server: a directory on one machine that all processes see.

    <dir>/<id>.lock   locked by the worker process while it lives; free = dead, at once, also after kill -9
    <dir>/<id>.json   its value, replaced by rename; it counts only while the lock is held

Workers look after their two files and watchers read the directory every `poll_s`. The calls are few, small and on a
local disk, so they are made on the event loop: a thread would outlive a cancelled waiter and write after `close`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final, final

from common.clock import Clock
from common.discovery.api import Instance, Snapshot
from common.discovery.background import Background
from common.discovery.codec import BadValue, check_id, decode, encode
from common.discovery.picture import Picture
from common.discovery.problems import ProblemLog
from common.discovery.worker_files import WorkerFiles, files_in, sweep
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
        files = WorkerFiles(self._directory, check_id(instance.id))
        for attempt in range(_CLAIM_TRIES):
            if attempt:
                await self._clock.sleep(_CLAIM_WAIT_S)
            try:
                if files.announce(encode(instance)):
                    sweep(self._directory)
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

    def __init__(self, files: WorkerFiles, instance: Instance, clock: Clock, poll_s: float) -> None:
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
            for files in files_in(self._directory)
            if (value := files.value) is not None and (files.held or not files.is_worker(value))
        }


def _whereabouts(value: bytes | None) -> str:
    try:
        return f" at {decode(value or b'').address}"
    except BadValue:
        return ""
