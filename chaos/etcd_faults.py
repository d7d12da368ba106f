"""Faults in what etcd holds, done with a client of its own."""

from __future__ import annotations

from typing import Final

from chaos.scenario import FaultWish
from chaos.stage import Stage
from common.discovery.etcd.client import EtcdClient
from common.discovery.etcd.keys import WORKERS
from lepton.etcd.v1 import etcd_pb2 as pb

__all__ = ["compact_etcd", "garbage_in_etcd"]

_ANSWER_S_MAX: Final = 5.0
_CHURN: Final = 50
_GARBAGE: Final = (
    b"not JSON",
    b"\xff\xfe\x00",
    b"{}",
    b'{"schema": 99, "id": "future"}',
    b'{"schema": 1, "address": "127.0.0.1:99999999"}',
    b"[" * 100_000,
    b"x" * (1 << 20),
)


async def compact_etcd(stage: Stage, wish: FaultWish) -> None:
    """While routers do not hear of it, keys come and go and all history is forgotten: their watch has a hole."""
    client = _client(stage)
    if client is None:
        return
    stage.note("etcd is compacted")
    link = stage.cluster.etcd_links[0]
    link.black_hole()
    try:
        for number in range(_CHURN):
            key = WORKERS + f"churn-{number % 5}".encode()
            await _put(client, key, b"{}")
            await _remove(client, key)
        await client.compact()
        await stage.clock.sleep(wish.for_s)
    finally:
        await client.close()
        link.reset()
        link.heal()


async def garbage_in_etcd(stage: Stage, wish: FaultWish) -> None:
    """Values that no worker wrote, under the prefix of workers; they stay for `for_s`."""
    client = _client(stage)
    if client is None:
        return
    stage.note("garbage in etcd")
    keys = [WORKERS + f"garbage-{number}".encode() for number in range(len(_GARBAGE))]
    keys[0] = WORKERS + b"\xff\x00/../x"
    try:
        for key, value in zip(keys, _GARBAGE, strict=True):
            await _put(client, key, value)
        await stage.clock.sleep(wish.for_s)
        for key in keys:
            await _remove(client, key)
    finally:
        await client.close()


def _client(stage: Stage) -> EtcdClient | None:
    etcd = stage.cluster.plan.etcd
    return EtcdClient((etcd.ports.endpoint,), timeout_s=_ANSWER_S_MAX) if etcd else None


async def _put(client: EtcdClient, key: bytes, value: bytes) -> None:
    put = pb.RequestOp(request_put=pb.PutRequest(key=key, value=value))
    await client.txn(pb.TxnRequest(success=[put]))


async def _remove(client: EtcdClient, key: bytes) -> None:
    remove = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key))
    await client.txn(pb.TxnRequest(success=[remove]))
