"""The command lines of a cluster's processes. The only place that knows the flags of router and worker."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

from pydantic import SecretStr

from agent.etcd import etcd_spec, wait_healthy
from agent.plan import ClusterPlan, EtcdPlan, WorkerPlan
from agent.process import ProcessSpec
from agent.settings import AgentSettings
from agent.supervisor import Role
from common.clock import Clock

__all__ = ["ETCD", "ROUTER", "etcd_role", "process_of", "router_role", "worker_role"]

ETCD: Final = "etcd"
ROUTER: Final = "router"
_RESTART: Final = "-r"


def process_of(worker_id: str) -> str:
    """The name of the process that a worker id belongs to: "w1" of "w1" and "w1-r3"."""
    return worker_id.partition(_RESTART)[0]


def etcd_role(plan: ClusterPlan, etcd: EtcdPlan, settings: AgentSettings, clock: Clock) -> Role:
    """The registry. It keeps its folder and its ports over restarts."""
    spec = etcd_spec(
        etcd.program,
        etcd.ports,
        data_dir=plan.state.etcd,
        log_file=plan.state.logs / "etcd.log",
        env=plan.env,
    )
    return Role(
        name=ETCD,
        spec=lambda _: spec,
        stop_s_max=settings.stop_s_max,
        probe=lambda: wait_healthy(etcd.ports, clock),
    )


def worker_role(
    plan: ClusterPlan,
    worker: WorkerPlan,
    settings: AgentSettings,
    token: SecretStr,
    *,
    more: Mapping[str, str] | None = None,
) -> Role:
    """One worker on a port that it chooses itself, unless `more` flags say otherwise."""

    def spec(start: int) -> ProcessSpec:
        # A new id for each start: the registry may still hold the lease of the dead, and would refuse the heir.
        worker_id = worker.name if start == 0 else f"{worker.name}{_RESTART}{start}"
        flags = {
            "model-dir": str(worker.model.folder),
            "model-name": worker.model.name,
            "id": worker_id,
            "port": "0",
            "metrics-port": "0",
            "threads": str(worker.threads),
        }
        return _lepton("worker", worker.name, plan, token, flags, more)

    return Role(name=worker.name, spec=spec, stop_s_max=settings.drain_s_max)


def router_role(
    plan: ClusterPlan,
    settings: AgentSettings,
    token: SecretStr,
    *,
    name: str = ROUTER,
    more: Mapping[str, str] | None = None,
) -> Role:
    """The front door. It keeps its ports over restarts. One of several has another name, and its ports in `more`."""
    flags = {
        "host": plan.host,
        "port": str(plan.port),
        "gateway.host": plan.host,
        "gateway.port": str(plan.http_port),
        "metrics-port": str(plan.metrics_port),
        "discovery.snapshot-file": str(plan.state.snapshot),
        "drain-delay-s": "0",  # no load balancer in front of it has to notice first
    }
    if plan.cluster.insecure:
        flags["cluster.insecure"] = "true"
    spec = _lepton("router", name, plan, token, flags, more)
    return Role(name=name, spec=lambda _: spec, stop_s_max=settings.drain_s_max)


def _lepton(
    module: str,
    name: str,
    plan: ClusterPlan,
    token: SecretStr,
    flags: Mapping[str, str],
    more: Mapping[str, str] | None,
) -> ProcessSpec:
    registry = (
        {"discovery.etcd-endpoints": plan.etcd.ports.endpoint}
        if plan.etcd
        else {"discovery.registry-dir": str(plan.state.registry)}
    )
    every = {
        **flags,
        **registry,
        "telemetry.trace-dir": str(plan.state.traces),
        "telemetry.log-format": "json",  # the agent reads it
        **(more or {}),
    }
    if plan.config:
        every["config"] = str(plan.config)
    return ProcessSpec(
        name=name,
        # -P: a folder called "worker" where the user happens to be must not be taken for ours.
        argv=(
            *(sys.executable, "-P", "-m", module),
            *(f"--{key}={value}" for key, value in every.items()),
        ),
        env={**plan.env, "LEPTON_CLUSTER_TOKEN": token.get_secret_value()},
        log_file=plan.state.logs / f"{name}.log",
    )
