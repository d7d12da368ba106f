"""Who may write a worker's key, in transactions that cannot overwrite another's.

A free key is created. A key of our own incarnation, or without a lease (its writer cannot be alive), is taken over as
long as it has not changed meanwhile. Any other key belongs to someone. No transaction is ever repeated as it is: after
a lost answer the claim begins again by looking, and finds its own value if it was written.
"""

from __future__ import annotations

from typing import Final

from common.clock import Clock
from common.discovery.codec import BadValue, decode
from common.discovery.etcd.client import EtcdClient
from common.discovery.etcd.errors import EtcdError, LeaseGone
from lepton.etcd.v1 import etcd_pb2 as pb

__all__ = ["Contended", "Taken", "claim", "is_alive", "replace"]

_TRIES: Final = 8
_LOOK_EVERY_S: Final = 0.25
_GRACE_S: Final = 5.0
"""How late etcd may be in removing a lease that has ended."""


class Taken(Exception):
    """The key is another incarnation's, on a lease; `address` is empty when its value cannot be read."""

    def __init__(self, *, lease_id: int, address: str) -> None:
        super().__init__(f"held by {address or 'an unreadable value'} on lease {lease_id:x}")
        self.lease_id = lease_id
        self.address = address


class Contended(EtcdError):
    """The key changed each time we looked."""


async def claim(
    client: EtcdClient, key: bytes, value: bytes, *, incarnation: str, lease_id: int
) -> int:
    """Writes `value` on the lease; returns the revision of the write. Raises `Taken` or `EtcdError`."""
    put = _put(key, value, lease_id)
    look = pb.RequestOp(request_range=pb.RangeRequest(key=key))
    for _ in range(_TRIES):
        created = await client.txn(
            pb.TxnRequest(compare=[_at_creation(key, 0)], success=[put], failure=[look])
        )
        if created.succeeded:
            return created.header.revision
        [there] = created.responses[0].response_range.kvs
        holder, address = _holder(there.value)
        if there.lease and holder != incarnation:
            raise Taken(lease_id=there.lease, address=address)
        revision = await replace(client, key, value, lease_id=lease_id, last=there.mod_revision)
        if revision is not None:
            return revision
    raise Contended(f"{key.decode(errors='backslashreplace')} changed {_TRIES} times")


async def replace(
    client: EtcdClient, key: bytes, value: bytes, *, lease_id: int, last: int
) -> int | None:
    """Writes `value` if the key's last change was at revision `last`; the new revision, or None. Raises `EtcdError`."""
    answer = await client.txn(
        pb.TxnRequest(compare=[_at_change(key, last)], success=[_put(key, value, lease_id)])
    )
    return answer.header.revision if answer.succeeded else None


async def is_alive(client: EtcdClient, clock: Clock, taken: Taken) -> bool:
    """Whether the holder renews its lease. Waits until that is seen (a third of the lease's life and a second, when it
    does) or the lease is gone (the rest of its life). Raises `EtcdError`.
    """
    began_at = clock.now()
    while True:
        waited_s = clock.now() - began_at
        try:
            lease = await client.time_to_live(taken.lease_id)
        except LeaseGone:
            return False
        if not lease.granted_ttl:
            return False
        # A lease that nobody renewed since we began cannot have more than this left. (Rounded towards 0, so that 0 says
        # nothing: it may be a lease that is over and not yet removed.)
        if lease.ttl > max(0.0, lease.granted_ttl - waited_s):
            return True
        if waited_s > lease.granted_ttl + _GRACE_S:
            return True
        await clock.sleep(_LOOK_EVERY_S)


def _holder(value: bytes) -> tuple[str | None, str]:
    try:
        instance = decode(value)
    except BadValue:
        return None, ""
    return instance.incarnation, instance.address


def _put(key: bytes, value: bytes, lease_id: int) -> pb.RequestOp:
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, lease=lease_id))


def _at_creation(key: bytes, revision: int) -> pb.Compare:
    return pb.Compare(
        result=pb.COMPARE_RESULT_EQUAL,
        target=pb.COMPARE_TARGET_CREATE,
        key=key,
        create_revision=revision,
    )


def _at_change(key: bytes, revision: int) -> pb.Compare:
    return pb.Compare(
        result=pb.COMPARE_RESULT_EQUAL,
        target=pb.COMPARE_TARGET_MOD,
        key=key,
        mod_revision=revision,
    )
