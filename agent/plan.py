"""What a local cluster consists of, decided before anything is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.cores import find_cores, share
from agent.etcd import EtcdPorts, find_etcd
from agent.models import ModelChoice
from agent.ports import check_port, free_port, is_free
from agent.settings import AgentSettings
from agent.state import StateDir
from common.address import join_address
from common.cluster import ClusterSettings
from common.errors import Conflict, Reason
from common.rpc.bind import check_bind

__all__ = [
    "HTTP_PORT",
    "METRICS_PORT",
    "ClusterPlan",
    "EtcdPlan",
    "WorkerPlan",
    "make_plan",
]

HTTP_PORT: Final = 8080
"""Preferred port of the router's HTTP door; another one is taken when it is in use and nobody asked for it."""

METRICS_PORT: Final = 8081
"""Likewise of its `/metrics`."""

_LOOPBACK: Final = "127.0.0.1"
"""Where everything listens unless told otherwise."""

_ALONE: Final = ClusterSettings()
"""Of a cluster that only this machine reaches."""

_WORKERS_MAX: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdPlan:
    """The registry as a process."""

    program: Path
    ports: EtcdPorts


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlan:
    """One worker."""

    name: str
    """ "w1", "w2", …"""
    model: ModelChoice
    threads: int
    """Compute threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan:
    """Everything that is known before the start."""

    state: StateDir
    host: str
    """Where the router listens."""
    port: int
    """Its gRPC port."""
    http_port: int
    """Its HTTP port, on the same host."""
    metrics_port: int
    """Its `/metrics` port, on loopback."""
    address: str
    """host:port that clients on this machine use."""
    advertise: str
    """host:port that is told to people; differs from `address` when others reach this machine by another name."""
    etcd: EtcdPlan | None
    """None: the registry is a directory."""
    workers: tuple[WorkerPlan, ...]
    cluster: ClusterSettings
    """With the token, where the settings name one; else the agent makes one."""
    config: Path | None
    """Settings file for all processes."""
    env: Mapping[str, str]
    """Environment of all processes."""

    @property
    def http_address(self) -> str:
        """host:port of the router's HTTP door for clients on this machine."""
        return _with_port(self.address.rpartition(":")[0], self.http_port)

    @property
    def metrics_address(self) -> str:
        """host:port of the router's `/metrics` for people on this machine."""
        return join_address(_LOOPBACK, self.metrics_port)


def make_plan(
    *,
    state: StateDir,
    settings: AgentSettings,
    models: Sequence[ModelChoice],
    workers: int,
    env: Mapping[str, str],
    host: str = _LOOPBACK,
    port: int = 0,
    http_port: int | None = None,
    metrics_port: int | None = None,
    advertise: str = "",
    cluster: ClusterSettings = _ALONE,
    config: Path | None = None,
) -> ClusterPlan:
    """`workers` processes for each model; by default as tests and measurements want them, on loopback.

    A port that is 0 becomes a free one; None the usual one, if that is free.

    Raises `Conflict` with BIND_NOT_ALLOWED, PORT_IN_USE or SETTING_INVALID. Nothing is started or written.
    """
    total = workers * len(models)
    if not 1 <= total <= _WORKERS_MAX:
        raise Conflict(
            f"{total} workers; the range is 1 to {_WORKERS_MAX}", reason=Reason.SETTING_INVALID
        )
    check_bind(host, insecure=cluster.insecure)
    check_port(host, port, flag="--port")
    port = port or free_port(host)
    if http_port is None:
        http_port = _preferred(HTTP_PORT, host, taken={port})
    check_port(host, http_port, flag="--http-port")
    http_port = http_port or free_port(host)
    if metrics_port is None:
        metrics_port = _preferred(METRICS_PORT, _LOOPBACK, taken={port, http_port})
    check_port(_LOOPBACK, metrics_port, flag="--metrics-port")
    program = find_etcd(settings.etcd_binary, env)
    threads = share(find_cores().usable, total)
    chosen = [model for model in models for _ in range(workers)]
    near = _LOOPBACK if _is_every_address(host) else host
    return ClusterPlan(
        state=state,
        host=host,
        port=port,
        http_port=http_port,
        metrics_port=metrics_port or free_port(_LOOPBACK),
        address=join_address(near, port),
        advertise=_with_port(advertise, port) if advertise else join_address(near, port),
        etcd=EtcdPlan(program=program, ports=_etcd_ports()) if program else None,
        workers=tuple(
            WorkerPlan(name=f"w{index + 1}", model=model, threads=threads[index])
            for index, model in enumerate(chosen)
        ),
        cluster=cluster,
        config=config,
        env=env,
    )


def _is_every_address(host: str) -> bool:
    return host.strip("[]") in {"0.0.0.0", "::"}


def _with_port(address: str, port: int) -> str:
    name, colon, number = address.rpartition(":")
    given = colon and number.isdigit() and ("]" in name or ":" not in name)
    return address if given else join_address(address, port)


def _preferred(port: int, host: str, *, taken: Set[int]) -> int:
    return port if port not in taken and is_free(host, port) else free_port(host)


def _etcd_ports() -> EtcdPorts:
    return EtcdPorts(client=free_port(), peer=free_port())
