"""Who is there: the workers of a cluster, from the registry, from what the agent wrote down, and from themselves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final

import grpc
from pydantic import SecretStr

from agent.state import ClusterState, ProcessState
from cli.client import Client, error_from
from cli.target import Target
from common.clock import Clock
from common.discovery.api import Instance, Snapshot
from common.discovery.open import open_watcher
from common.discovery.settings import DiscoverySettings
from common.errors import LeptonError, Reason
from common.rpc.auth import cluster_token_metadata
from common.rpc.channel import open_channel
from lepton.v1 import types_pb2, worker_pb2, worker_pb2_grpc

__all__ = ["Census", "WorkerRow", "take_census"]

_REGISTRY_S_MAX: Final = 2.0
_WORKER_S_MAX: Final = 1.5
_MESSAGE_BYTES_MAX: Final = 4 << 20
_ASKED_AT_ONCE_MAX: Final = 32
_SILENT: Final = frozenset({Reason.UNREACHABLE, Reason.DEADLINE_EXCEEDED})
"""Gone, or frozen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """One worker."""

    id: str
    model: str
    revision: str
    address: str
    state: str
    """serving, draining, silent (it does not answer), unlisted (it serves, but the registry does not list it), or the
    reason of its error."""
    running: int | None = None
    """Sequences in the batch; None: not known, as in all fields below."""
    rows_max: int | None = None
    waiting: int | None = None
    kv_usage: float | None = None
    """0 to 1."""
    step: int | None = None
    """Engine steps since its start."""
    pid: int | None = None
    """When it runs under the local agent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """A cluster at one moment."""

    address: str
    """The router that was asked."""
    router_error: str
    """Why it did not answer; empty when it did."""
    models: tuple[types_pb2.ModelInfo, ...]
    """What it serves."""
    workers: tuple[WorkerRow, ...]
    registry: str
    """etcd 127.0.0.1:2379, a directory, or empty: not known (a cluster of another machine)."""
    registry_away: bool
    """It did not answer; the list is the agent's."""
    problems: tuple[str, ...]
    """Entries of the registry that could not be read."""


async def take_census(target: Target, discovery: DiscoverySettings, clock: Clock) -> Census:
    """Asks router, registry and workers at the same time, each within a bound. Never raises for one that is away."""
    token = target.state.token if target.state else SecretStr("")
    router, snapshot = await asyncio.gather(
        _ask_router(target.address), _ask_registry(discovery, clock)
    )
    models, router_error = router
    known = [_from_registry(one) for one in snapshot.instances.values()] if snapshot else []
    away = snapshot is None or snapshot.stale
    unlisted = _unlisted(target.state, {row.address for row in known}, away=away)
    limit = asyncio.Semaphore(_ASKED_AT_ONCE_MAX)
    rows = await asyncio.gather(*(_ask_worker(row, token, limit) for row in (*known, *unlisted)))
    pids = {one.address: one.pid for one in _processes(target.state)}
    return Census(
        address=target.address,
        router_error=router_error,
        models=models,
        workers=tuple(
            replace(row, pid=pids.get(row.address))
            for row in sorted(rows, key=lambda row: (row.model, row.id))
        ),
        registry=_registry_name(discovery),
        registry_away=away and bool(_registry_name(discovery)),
        problems=tuple(f"{k}: {v}" for k, v in snapshot.problems.items()) if snapshot else (),
    )


async def _ask_router(address: str) -> tuple[tuple[types_pb2.ModelInfo, ...], str]:
    try:
        async with Client(address) as client:
            return tuple(await client.list_models()), ""
    except LeptonError as error:
        return (), error.message


async def _ask_registry(settings: DiscoverySettings, clock: Clock) -> Snapshot | None:
    """What it lists now; None when it cannot be asked."""
    if not settings.etcd_endpoints and settings.registry_dir is None:
        return None
    watch = open_watcher(settings, clock).snapshots()
    try:
        async with asyncio.timeout(_REGISTRY_S_MAX):
            async for snapshot in watch:
                if not snapshot.stale:
                    return snapshot
    except TimeoutError:
        pass
    finally:
        await watch.aclose()
    return None


async def _ask_worker(row: WorkerRow, token: SecretStr, limit: asyncio.Semaphore) -> WorkerRow:
    metadata = cluster_token_metadata(token)
    async with limit, open_channel(row.address, message_bytes_max=_MESSAGE_BYTES_MAX) as channel:
        stub = worker_pb2_grpc.WorkerServiceStub(channel)  # type: ignore[no-untyped-call]
        try:
            info, load = await asyncio.gather(
                stub.GetInfo(worker_pb2.GetInfoRequest(), timeout=_WORKER_S_MAX, metadata=metadata),
                _first_load(stub, metadata),
            )
        except grpc.aio.AioRpcError as error:
            meant = error_from(error, row.address)
            silent = meant.reason in _SILENT
            return replace(row, state="silent" if silent else meant.reason.value.lower())
    if load is None:
        return replace(row, state="silent")
    return _filled(row, info, load)


async def _first_load(
    stub: worker_pb2_grpc.WorkerServiceStub, metadata: tuple[tuple[str, str], ...]
) -> worker_pb2.WatchLoadResponse | None:
    """None when the worker ends the stream unasked: it is about to stop."""
    call = stub.WatchLoad(
        worker_pb2.WatchLoadRequest(router_id="lepton-ps"), timeout=_WORKER_S_MAX, metadata=metadata
    )
    try:
        load = await call.read()
    finally:
        call.cancel()
    return load if isinstance(load, worker_pb2.WatchLoadResponse) else None


def _filled(
    row: WorkerRow, info: worker_pb2.GetInfoResponse, load: worker_pb2.WatchLoadResponse
) -> WorkerRow:
    draining = load.state == worker_pb2.WORKER_STATE_DRAINING
    return replace(
        row,
        id=info.worker_id or row.id,
        model=info.model.model or row.model,
        revision=info.model.revision or row.revision,
        state="draining" if draining else row.state,
        running=load.running,
        rows_max=load.rows_max,
        waiting=load.waiting,
        kv_usage=load.kv_usage,
        step=load.step,
    )


def _from_registry(one: Instance) -> WorkerRow:
    return WorkerRow(
        id=one.id,
        model=one.model,
        revision=one.revision,
        address=one.address,
        state=one.state.value,
    )


def _unlisted(state: ClusterState | None, listed: set[str], *, away: bool) -> list[WorkerRow]:
    """Workers of the local agent that the registry does not list. While it is away that is nobody's fault."""
    word = "serving" if away else "unlisted"
    return [
        WorkerRow(id=one.name, model="", revision="", address=one.address, state=word)
        for one in _processes(state)
        if one.address and one.address not in listed
    ]


def _processes(state: ClusterState | None) -> tuple[ProcessState, ...]:
    workers = state.processes if state else ()
    return tuple(one for one in workers if one.name not in ("etcd", "router"))


def _registry_name(settings: DiscoverySettings) -> str:
    if settings.etcd_endpoints:
        return f"etcd {', '.join(settings.etcd_endpoints)}"
    return f"directory {settings.registry_dir}" if settings.registry_dir else ""
