"""A lease, and when it is over by our own clock."""

from __future__ import annotations

from typing import Final, final

from common.clock import Clock
from common.discovery.etcd.client import EtcdClient
from common.discovery.etcd.errors import LeaseGone

__all__ = ["Lease"]

_RENEWALS_PER_LIFE: Final = 3
"""Two renewals may be lost before the lease is."""


@final
class Lease:
    """Granted by etcd; whoever holds it renews it every `renew_every_s`.

    The end is measured from before the request that started the life, on a monotonic clock: we think it over sooner
    than etcd does, never later, unless etcd forgets it (a wiped store), which the next renewal tells.
    """

    def __init__(self, client: EtcdClient, clock: Clock, *, lease_id: int, ends_at: float) -> None:
        self._client = client
        self._clock = clock
        self.id = lease_id
        self._ends_at = ends_at
        self.renew_every_s = (ends_at - clock.now()) / _RENEWALS_PER_LIFE

    def __repr__(self) -> str:
        return f"Lease({self.id:x}, {self._ends_at - self._clock.now():.1f} s left)"

    @classmethod
    async def grant(cls, client: EtcdClient, clock: Clock, *, ttl_s: int) -> Lease:
        """A new lease of at least `ttl_s` seconds. Raises `EtcdError`."""
        asked_at = clock.now()
        answer = await client.grant(ttl_s)
        return cls(client, clock, lease_id=answer.id, ends_at=asked_at + answer.ttl)

    @property
    def is_over(self) -> bool:
        """Whether it may have ended by now."""
        return self._clock.now() >= self._ends_at

    async def renew(self) -> None:
        """Starts its life anew. Raises `LeaseGone`, or another `EtcdError` (it may live on)."""
        asked_at = self._clock.now()
        ttl_s = await self._client.keep_alive(self.id)
        if ttl_s <= 0:
            self._ends_at = asked_at
            raise LeaseGone(f"lease {self.id:x} is gone")
        self._ends_at = asked_at + ttl_s

    async def revoke(self) -> None:
        """Ends it and removes its keys. Raises `EtcdError`."""
        await self._client.revoke(self.id)
