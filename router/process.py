"""`lepton-router`: a router as a process, or as the parent of several."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from random import Random
from typing import Any, Final

from common.address import join_address
from common.clock import SystemClock
from common.cluster import ClusterSettings
from common.collector import settle_collector
from common.discovery.open import open_watcher
from common.discovery.settings import DiscoverySettings
from common.limits import Limits
from common.logs import get_logger, setup_logs
from common.process import ProcessSpec, StopRequest
from common.telemetry.settings import TelemetrySettings
from common.telemetry.setup import setup_telemetry
from gateway.settings import GatewaySettings
from router.app import check_binds, running
from router.config import Config
from router.fleet.parent import serve_fleet
from router.fleet.place import OnReady, Ports
from router.settings import RouterSettings

__all__ = ["PROCESS", "SERVICE_NAME", "serve", "serve_one"]

SERVICE_NAME: Final = "lepton-router"

log = get_logger(__name__)


async def serve(sections: Mapping[str, Any], stop: StopRequest) -> None:
    """Runs a router from its settings to its end: in this process, or as the parent of several."""
    config = Config(**sections).with_id()
    setup_logs(config.telemetry, service=SERVICE_NAME, instance_id=config.router.id)

    def say_ready(ports: Ports) -> None:
        http = config.http
        log.info(
            "process.ready",
            address=join_address(config.router.host, ports.grpc),
            metrics_address=join_address(config.router.metrics_host, ports.metrics),
            http_address=join_address(http.host, ports.http) if http else "",
            router_id=config.router.id,
        )

    if config.router.processes == 1:
        await serve_one(config, stop, on_ready=say_ready)
        return
    check_binds(config)
    await serve_fleet(
        {name: getattr(config, name) for name in sections},
        stop,
        http=(config.http.host, config.http.port) if config.http else None,
        on_ready=say_ready,
        clock=SystemClock(),
        random=Random(),
    )


async def serve_one(
    config: Config, stop: StopRequest, *, on_ready: OnReady, shares_port: bool = False
) -> None:
    """Runs one router in this process; `shares_port` lets others of the same user listen on its port as well."""
    settings = config.router
    clock = SystemClock()
    watcher = open_watcher(config.discovery, clock)
    telemetry = setup_telemetry(
        config.telemetry,
        service=SERVICE_NAME,
        instance_id=settings.id,
        env=os.environ,
        clock=clock,
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, telemetry.shutdown)
        router = await stack.enter_async_context(
            running(
                config,
                watcher=watcher,
                tracer=telemetry.tracer,
                clock=clock,
                shares_port=shares_port,
            )
        )
        settle_collector()
        on_ready(router.ports)
        await stop.requested.wait()
        await router.drain(stop.grace_s)


PROCESS: Final = ProcessSpec(
    program=SERVICE_NAME,
    about="The front door of a cluster: finds workers, chooses one per call, and relays its answer over gRPC.",
    own="router",
    sections={
        "router": RouterSettings,
        "discovery": DiscoverySettings,
        "telemetry": TelemetrySettings,
        "limits": Limits,
        "cluster": ClusterSettings,
        "gateway": GatewaySettings,
    },
    serve=serve,
)
