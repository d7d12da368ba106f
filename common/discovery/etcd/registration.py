"""One worker's key: claimed, kept, written anew when lost.

    away ──announce()──> announced ──lease over, key changed, answer lost──> away (try again, with jitter)

There is no third state and no end but `close`: a worker that loses etcd serves on.
"""

from __future__ import annotations

import asyncio
from typing import final

from common.clock import Clock
from common.discovery.api import Instance
from common.discovery.background import Background
from common.discovery.backoff import Backoff
from common.discovery.codec import encode
from common.discovery.etcd.claim import Taken, claim, replace
from common.discovery.etcd.client import EtcdClient
from common.discovery.etcd.errors import EtcdError, LeaseGone
from common.discovery.etcd.keys import key_of
from common.discovery.etcd.lease import Lease
from common.discovery.settings import DiscoverySettings
from common.logs import get_logger

__all__ = ["EtcdRegistration"]

log = get_logger(__name__)


@final
class EtcdRegistration:
    """See `Registration`. Owns the client that it is given."""

    def __init__(
        self, client: EtcdClient, clock: Clock, settings: DiscoverySettings, instance: Instance
    ) -> None:
        self.instance = instance
        self._client = client
        self._clock = clock
        self._settings = settings
        self._key = key_of(instance.id)
        self._writing = asyncio.Lock()
        self._lease: Lease | None = None
        self._written: Instance | None = None
        self._revision: int | None = None
        """Of our last write; None while away."""
        self._lost = asyncio.Event()
        self._tending: Background | None = None

    def __repr__(self) -> str:
        state = "announced" if self.announced else "away"
        return f"EtcdRegistration({self.instance.id}, {state}, {self._lease})"

    @property
    def announced(self) -> bool:
        """See `Registration.announced`."""
        return self._revision is not None

    async def announce(self) -> None:
        """Claims the key and writes the newest value. Raises `Taken` or `EtcdError`."""
        async with self._writing:
            lease = await self._living_lease()
            instance = self.instance
            try:
                self._revision = await claim(
                    self._client,
                    self._key,
                    encode(instance),
                    incarnation=instance.incarnation,
                    lease_id=lease.id,
                )
            except LeaseGone:
                self._lease = None
                raise
            self._written = instance
        log.info("discovery.announced", worker_id=instance.id, lease=f"{lease.id:x}")
        if self.instance is not instance:  # updated meanwhile
            await self._write()

    def start(self) -> None:
        """Begins to tend the key in the background."""
        self._tending = Background(self._tend(), name=f"discovery-{self.instance.id}")

    async def update(self, instance: Instance) -> None:
        """See `Registration.update`."""
        encode(instance)
        self.instance = instance
        if self.announced:
            await self._write()

    async def close(self) -> None:
        """See `Registration.close`."""
        try:
            if self._tending is not None:
                await self._tending.close()
            if self._lease is not None:
                await self._lease.revoke()
        except LeaseGone:
            pass
        except EtcdError as error:
            log.warning("discovery.removal_failed", worker_id=self.instance.id, error=str(error))
        finally:
            self._revision = None
            await self._client.close()

    async def _living_lease(self) -> Lease:
        if self._lease is None or self._lease.is_over:
            self._lease = await Lease.grant(
                self._client, self._clock, ttl_s=self._settings.lease_ttl_s
            )
        return self._lease

    async def _write(self) -> None:
        """Writes the newest value over our last one; what goes wrong makes us `away`."""
        async with self._writing:
            instance = self.instance
            if self._revision is None or self._lease is None or self._written is instance:
                return
            try:
                revision = await replace(
                    self._client,
                    self._key,
                    encode(instance),
                    lease_id=self._lease.id,
                    last=self._revision,
                )
            except EtcdError as error:
                self._lose(str(error))
                return
            if revision is None:
                self._lose("the key was changed by someone else")
                return
            self._revision, self._written = revision, instance

    async def _tend(self) -> None:
        backoff = Backoff(
            self._clock, least_s=self._settings.retry_s_min, most_s=self._settings.retry_s_max
        )
        told: type[Exception] | None = None
        while True:
            try:
                rest_s = await self._tend_once()
            except (EtcdError, Taken) as problem:
                if type(problem) is not told:  # once per outage: texts differ from try to try
                    told = type(problem)
                    log.warning("discovery.retry", worker_id=self.instance.id, error=str(problem))
                await backoff.wait()
            except Exception:
                # A fault of ours must not take the worker out of the registry for good.
                log.exception("discovery.failed", worker_id=self.instance.id)
                await backoff.wait()
            else:
                told = None
                backoff.reset()
                await self._rest(rest_s)

    async def _tend_once(self) -> float:
        """Sees to it that the key stands and its lease lives; returns the seconds until it must be done again."""
        self._lost.clear()
        if self.announced:
            await self._renew()
        if not self.announced:
            await self.announce()
        return self._lease.renew_every_s if self._lease is not None else 0.0

    async def _rest(self, seconds: float) -> None:
        """Until the time is over or an update finds that the announcement is lost."""
        try:
            async with asyncio.timeout(seconds):
                await self._lost.wait()
        except TimeoutError:
            return

    async def _renew(self) -> None:
        """Raises `EtcdError` when it failed; `away` when the lease is lost or may be."""
        lease = self._lease
        if lease is None:
            return
        try:
            await lease.renew()
            await self._look()
        except LeaseGone:
            self._lease = None
            self._lose("the lease is gone")
        except EtcdError:
            if lease.is_over:
                self._lose("the lease is over")
            raise

    async def _look(self) -> None:
        """Is the key as we wrote it? A living lease alone does not say so."""
        async with self._writing:
            if self._revision is None:
                return
            there = await self._client.get(self._key)
            if there is None or there.mod_revision != self._revision:
                self._lose("the key was changed by someone else")

    def _lose(self, reason: str) -> None:
        self._revision = None
        self._lost.set()
        log.warning("discovery.announcement_lost", worker_id=self.instance.id, reason=reason)
