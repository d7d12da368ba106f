"""Announces a worker in etcd and keeps it announced."""

from __future__ import annotations

from typing import final

from common.clock import Clock
from common.discovery.api import Instance
from common.discovery.codec import encode
from common.discovery.etcd.claim import Taken, is_alive
from common.discovery.etcd.client import EtcdClient
from common.discovery.etcd.errors import EtcdError
from common.discovery.etcd.registration import EtcdRegistration
from common.discovery.settings import DiscoverySettings
from common.errors import Conflict, Reason
from common.logs import get_logger

__all__ = ["EtcdRegistrar"]

log = get_logger(__name__)


@final
class EtcdRegistrar:
    """See `Registrar`. Each registration has a connection of its own."""

    def __init__(self, settings: DiscoverySettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    async def register(self, instance: Instance) -> EtcdRegistration:
        """See `Registrar.register`."""
        encode(instance)
        client = EtcdClient(
            self._settings.etcd_endpoints, timeout_s=self._settings.request_timeout_s
        )
        registration = EtcdRegistration(client, self._clock, self._settings, instance)
        try:
            await self._announce(client, registration)
        except BaseException:
            await registration.close()
            raise
        registration.start()
        return registration

    async def _announce(self, client: EtcdClient, registration: EtcdRegistration) -> None:
        """Tries until it is announced, or etcd does not answer (the registration goes on trying by itself)."""
        while not registration.announced:
            try:
                try:
                    await registration.announce()
                except Taken as taken:
                    if await is_alive(client, self._clock, taken):
                        raise _conflict(registration.instance.id, taken) from taken
            except EtcdError as error:
                log.warning("discovery.unreachable", registry=repr(client), error=str(error))
                return


def _conflict(worker_id: str, taken: Taken) -> Conflict:
    where = f" at {taken.address}" if taken.address else ""
    return Conflict(
        f"worker id {worker_id} is taken by a live worker{where}; give this one another id or stop that one",
        reason=Reason.WORKER_ID_TAKEN,
    )
