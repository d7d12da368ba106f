"""A thin asyncio client of etcd's v3 API: only what discovery needs, every wait bounded, every error typed.

It never retries: its callers know what a lost answer means for them (a read may be repeated, a transaction must be read
back first). After an `Unreachable` the next call goes to the next endpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, final

import grpc
from google.protobuf.message import Message

from common.discovery.etcd.errors import Compacted, EtcdError, Refused, Unreachable, typed
from common.discovery.etcd.keys import range_end
from lepton.etcd.v1 import etcd_pb2 as pb

__all__ = ["EtcdClient", "Listing"]

_PAGE_KEYS: Final = 256
"""Keys per answer of a list. etcd takes values of at most 1.5 MiB, so a page stays below `_MESSAGE_BYTES_MAX`."""

_MESSAGE_BYTES_MAX: Final = 512 << 20

_CHANNEL_OPTIONS: Final = (
    # etcd is near: come back to it in a second, not in gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # How long one try to connect may take (its name says something else): a busy member is not a dead one.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A restarted container has a new address behind the same name; gRPC would ask again after 30 s only.
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    # A dead connection under a quiet watch. etcd refuses pings more often than every 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
    ("grpc.enable_http_proxy", 0),
    # Clients of one process must not share connections, and with them each other's backoff.
    ("grpc.use_local_subchannel_pool", 1),
)

_WITH_LEADER: Final = (("hasleader", "true"),)
"""Asks a member to end the stream when it loses its leader, so that a cut-off member is noticed."""

ResponseT = TypeVar("ResponseT", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All keys under a prefix at one revision."""

    revision: int
    cluster_id: int
    entries: Sequence[pb.KeyValue]


@final
class EtcdClient:
    """Calls to the members of one etcd cluster.

    Resources: one channel per endpoint, opened on first use; `close` ends them. Errors: `EtcdError` from every
    method. Cancellation: passes through; a cancelled write may have happened.
    """

    def __init__(self, endpoints: Sequence[str], *, timeout_s: float) -> None:
        self._endpoints = tuple(endpoints)
        self._timeout_s = timeout_s
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._turn = 0

    def __repr__(self) -> str:
        return f"EtcdClient({', '.join(self._endpoints)}; next {self.endpoint})"

    @property
    def endpoint(self) -> str:
        """Where the next call goes."""
        return self._endpoints[self._turn % len(self._endpoints)]

    async def list_prefix(self, prefix: bytes) -> Listing:
        """All keys under `prefix`, at one revision, read through the leader (never older than a list before)."""
        request = pb.RangeRequest(key=prefix, range_end=range_end(prefix), limit=_PAGE_KEYS)
        first = page = await self._range(request)
        entries = list(page.kvs)
        while page.more:
            request.key = entries[-1].key + b"\0"
            request.revision = first.header.revision
            page = await self._range(request)
            entries.extend(page.kvs)
        header = first.header
        return Listing(revision=header.revision, cluster_id=header.cluster_id, entries=entries)

    async def get(self, key: bytes) -> pb.KeyValue | None:
        """One key, read through the leader; None when there is none."""
        page = await self._range(pb.RangeRequest(key=key))
        return page.kvs[0] if page.kvs else None

    async def txn(self, request: pb.TxnRequest) -> pb.TxnResponse:
        """One transaction. After `Unreachable` it may or may not have happened."""
        return await self._unary("/etcdserverpb.KV/Txn", request, pb.TxnResponse)

    async def grant(self, ttl_s: int) -> pb.LeaseGrantResponse:
        """A new lease; the server may give it a longer life."""
        answer = await self._unary(
            "/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantRequest(ttl=ttl_s), pb.LeaseGrantResponse
        )
        if answer.error:
            raise Refused(answer.error)
        return answer

    async def revoke(self, lease_id: int) -> None:
        """Ends a lease and removes its keys."""
        request = pb.LeaseRevokeRequest(id=lease_id)
        await self._unary("/etcdserverpb.Lease/LeaseRevoke", request, pb.LeaseRevokeResponse)

    async def time_to_live(self, lease_id: int) -> pb.LeaseTimeToLiveResponse:
        """How long a lease has; `ttl` is negative when it is gone."""
        request = pb.LeaseTimeToLiveRequest(id=lease_id)
        path = "/etcdserverpb.Lease/LeaseTimeToLive"
        return await self._unary(path, request, pb.LeaseTimeToLiveResponse)

    async def keep_alive(self, lease_id: int) -> int:
        """Starts a lease's life anew; returns its seconds, 0 or less when it is gone."""
        path = "/etcdserverpb.Lease/LeaseKeepAlive"
        call = self._stream(path, pb.LeaseKeepAliveResponse, timeout_s=self._timeout_s)
        try:
            await call.write(pb.LeaseKeepAliveRequest(id=lease_id))
            answer: pb.LeaseKeepAliveResponse = await self._read(call)
            return answer.ttl
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise self._failed(error) from error
        finally:
            call.cancel()

    async def watch(self, prefix: bytes, *, start: int) -> AsyncGenerator[pb.WatchResponse]:
        """What happens under `prefix` from revision `start` on; the first response says `created`.

        Raises `Compacted` when `start` is no longer kept, `Unreachable` when the stream breaks. Never ends by itself.
        """
        create = pb.WatchCreateRequest(
            key=prefix,
            range_end=range_end(prefix),
            start_revision=start,
            progress_notify=True,
            fragment=True,
        )
        call = self._stream("/etcdserverpb.Watch/Watch", pb.WatchResponse, timeout_s=None)
        try:
            async with asyncio.timeout(self._timeout_s):
                await call.write(pb.WatchRequest(create_request=create))
                response: pb.WatchResponse = await self._read(call)
            while True:
                if response.compact_revision:
                    raise Compacted(f"history begins at revision {response.compact_revision}")
                if response.canceled:
                    raise Unreachable(f"watch ended by the server: {response.cancel_reason}")
                yield response
                response = await self._read(call)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError) as error:
            raise self._failed(error) from error
        finally:
            call.cancel()

    async def status(self) -> pb.StatusResponse:
        """How the member at `endpoint` is."""
        path = "/etcdserverpb.Maintenance/Status"
        return await self._unary(path, pb.StatusRequest(), pb.StatusResponse)

    async def compact(self) -> int:
        """Makes etcd forget all history up to now; returns the revision. For tests of who watches."""
        revision = (await self.list_prefix(b"none")).revision
        request = pb.CompactionRequest(revision=revision, physical=True)
        await self._unary("/etcdserverpb.KV/Compact", request, pb.CompactionResponse)
        return revision

    async def close(self) -> None:
        """Ends all channels, and the calls on them."""
        channels = list(self._channels.values())
        self._channels.clear()
        for channel in channels:
            await channel.close()

    async def _range(self, request: pb.RangeRequest) -> pb.RangeResponse:
        return await self._unary("/etcdserverpb.KV/Range", request, pb.RangeResponse)

    async def _unary(self, path: str, request: Message, response: type[ResponseT]) -> ResponseT:
        call: Any = self._channel().unary_unary(
            path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        try:
            answer: ResponseT = await call(request, timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            raise self._failed(error) from error
        return answer

    def _stream(self, path: str, response: type[Message], *, timeout_s: float | None) -> Any:
        call: Any = self._channel().stream_stream(
            path,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return call(timeout=timeout_s, metadata=_WITH_LEADER)

    @staticmethod
    async def _read(call: Any) -> Any:
        response = await call.read()
        if response is grpc.aio.EOF:
            raise asyncio.InvalidStateError("the server ended the stream")
        return response

    def _channel(self) -> grpc.aio.Channel:
        endpoint = self.endpoint
        if endpoint not in self._channels:
            self._channels[endpoint] = grpc.aio.insecure_channel(endpoint, options=_CHANNEL_OPTIONS)
        return self._channels[endpoint]

    def _failed(self, error: Exception) -> EtcdError:
        """The typed error; turns to the next endpoint when this one does not answer."""
        if isinstance(error, grpc.aio.AioRpcError):
            failure = typed(error)
        else:
            failure = Unreachable(str(error) or "no answer in time")
        if isinstance(failure, Unreachable):
            self._turn += 1
        return failure
