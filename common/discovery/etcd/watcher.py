"""Follows the workers in etcd: list, watch from the next revision on, and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import final

from common.clock import Clock
from common.discovery.api import Snapshot
from common.discovery.background import Background
from common.discovery.backoff import Backoff
from common.discovery.board import Board
from common.discovery.etcd.client import EtcdClient
from common.discovery.etcd.errors import Compacted, EtcdError, Unreachable
from common.discovery.etcd.keys import WORKERS, id_of
from common.discovery.picture import Picture
from common.discovery.problems import ProblemLog
from common.discovery.settings import DiscoverySettings
from common.discovery.snapshot_file import SnapshotFile
from common.logs import get_logger
from lepton.etcd.v1 import etcd_pb2 as pb

__all__ = ["EtcdWatcher"]

log = get_logger(__name__)


@final
class EtcdWatcher:
    """See `Watcher`. Each call of `snapshots` has a connection of its own."""

    def __init__(self, settings: DiscoverySettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    async def snapshots(self) -> AsyncGenerator[Snapshot]:
        """See `Watcher.snapshots`."""
        follower = _Follower(self._settings, self._clock)
        try:
            follower.start()
            async for snapshot in follower.board.snapshots():
                yield snapshot
        finally:
            await follower.close()


@final
class _Follower:
    """Keeps a picture in step with etcd, and the file in step with the picture.

    Every turn lists first, so one way through the code heals a broken stream, a compaction, a wiped store and a watch
    that has gone silent: whatever a watch may have missed is in the list, and no watch lives longer than `relist_s`.
    """

    def __init__(self, settings: DiscoverySettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._client = EtcdClient(settings.etcd_endpoints, timeout_s=settings.request_timeout_s)
        self._picture = Picture()
        self._cluster_id: int | None = None
        """Of the last list; None before the first."""
        self._known = False
        self._stale = False
        self._unsaved = asyncio.Event()
        self._problems = ProblemLog()
        path = settings.snapshot_file
        self._file = None if path is None else SnapshotFile(path, clock)
        self._tasks: list[Background] = []
        self.board = Board(self._take)

    def start(self) -> None:
        """Begins with what the file says, and follows etcd in the background."""
        if self._file is not None and (kept := self._file.load()) is not None:
            self._picture.restore(kept)
            self._known = self._stale = True
            self.board.changed()
        self._tasks.append(Background(self._follow(), name="discovery-follow"))
        if self._file is not None:
            self._tasks.append(Background(self._keep(self._file), name="discovery-keep"))

    async def close(self) -> None:
        """Ends the background work and saves what was not saved yet."""
        try:
            for task in self._tasks:
                await task.close()
        finally:
            if self._file is not None and self._unsaved.is_set():
                self._file.save(self._picture.snapshot())
            await self._client.close()

    async def _follow(self) -> None:
        backoff = Backoff(
            self._clock, least_s=self._settings.retry_s_min, most_s=self._settings.retry_s_max
        )
        while True:
            try:
                start = await self._list() + 1
                async with asyncio.timeout(self._settings.relist_s):
                    await self._watch(start, backoff)
            except TimeoutError:
                continue
            except Compacted as error:
                log.info("discovery.compacted", error=str(error))
            except EtcdError as error:
                log.debug("discovery.watch_broken", error=str(error))
            except Exception:
                # A fault of ours, or a server that talks nonsense: begin anew, never stop following.
                log.exception("discovery.failed", registry=repr(self._client))
            await backoff.wait()

    async def _list(self) -> int:
        """Takes a full list and returns its revision."""
        try:
            listing = await self._client.list_prefix(WORKERS)
        except EtcdError as error:
            if not self._stale:
                log.warning("discovery.unreachable", registry=repr(self._client), error=str(error))
                self._stale = True
                self._publish()
            raise
        if self._cluster_id is not None and (
            listing.cluster_id != self._cluster_id or listing.revision < self._picture.revision
        ):
            # The store was lost and begun anew. What it says now is true; the workers come back to it.
            log.warning(
                "discovery.epoch_changed",
                revision_before=self._picture.revision,
                revision=listing.revision,
            )
        changed = self._picture.replace(
            {id_of(entry.key): entry.value for entry in listing.entries}, revision=listing.revision
        )
        if self._stale:
            log.info("discovery.reachable", registry=repr(self._client), revision=listing.revision)
        if changed or self._stale or not self._known:
            self._known, self._stale = True, False
            self._publish(save=True)
        self._cluster_id = listing.cluster_id
        return listing.revision

    async def _watch(self, start: int, backoff: Backoff) -> None:
        """Folds changes in until the stream breaks."""
        async with aclosing(self._client.watch(WORKERS, start=start)) as responses:
            async for response in responses:
                if response.created:
                    if response.header.revision < start - 1:
                        # A member behind the list: lagging, or wiped since. Its watch would be silent.
                        raise Unreachable("the member is behind the list")
                    backoff.reset()
                changed = [self._fold(event) for event in response.events]
                if any(changed):
                    self._publish(save=True)

    def _fold(self, event: pb.Event) -> bool:
        name, revision = id_of(event.kv.key), event.kv.mod_revision
        if event.type == pb.EVENT_TYPE_DELETE:
            return self._picture.delete(name, revision=revision)
        return self._picture.put(name, event.kv.value, revision=revision)

    async def _keep(self, file: SnapshotFile) -> None:
        """Saves after changes, not more often than every `snapshot_save_s`."""
        while True:
            await self._unsaved.wait()
            self._unsaved.clear()
            saving = asyncio.ensure_future(asyncio.to_thread(file.save, self._picture.snapshot()))
            try:
                await asyncio.shield(saving)
            finally:
                await saving  # a thread cannot be cancelled: `close` must not return before it
            await self._clock.sleep(self._settings.snapshot_save_s)

    def _publish(self, *, save: bool = False) -> None:
        if save:
            self._unsaved.set()
        if self._known:
            self.board.changed()

    def _take(self) -> Snapshot:
        snapshot = self._picture.snapshot(stale=self._stale)
        self._problems.tell(snapshot.problems)
        return snapshot
