"""`lepton-gateway`: the HTTP doors as a process of their own, before one or several routers."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

from prometheus_client import CollectorRegistry

from common.address import join_address
from common.clock import SystemClock
from common.cluster import ClusterSettings
from common.collector import settle_collector
from common.errors import Conflict, Reason
from common.limits import Limits
from common.logs import get_logger, setup_logs
from common.process import ProcessSpec, StopRequest
from common.rpc.bind import check_bind
from common.telemetry.instruments import GatewayInstruments
from common.telemetry.metrics import MetricsServer
from common.telemetry.settings import TelemetrySettings
from common.telemetry.setup import setup_telemetry
from gateway.app import make_app
from gateway.config import Config
from gateway.frame import Frame
from gateway.server import HttpServer
from gateway.settings import GatewaySettings
from gateway.upstream.routers import Routers

__all__ = ["PROCESS", "serve"]

SERVICE_NAME: Final = "lepton-gateway"

log = get_logger(__name__)


async def serve(sections: Mapping[str, Any], stop: StopRequest) -> None:
    """Runs a gateway from its settings to its end."""
    config = Config(**sections)
    settings = config.gateway
    instance_id = f"gateway-{uuid.uuid4().hex[:8]}"
    setup_logs(config.telemetry, service=SERVICE_NAME, instance_id=instance_id)
    for host in (settings.host, settings.metrics_host):
        check_bind(host, insecure=config.cluster.insecure)
    if not settings.routers:
        raise Conflict(
            "name at least one router: --routers host:port", reason=Reason.SETTING_INVALID
        )
    clock = SystemClock()
    telemetry = setup_telemetry(
        config.telemetry, service=SERVICE_NAME, instance_id=instance_id, env=os.environ, clock=clock
    )
    registry = CollectorRegistry()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, telemetry.shutdown)
        routers = Routers(
            settings.routers,
            message_bytes_max=config.limits.transport_bytes_max,
            pause_s=settings.router_pause_s,
            tracer=telemetry.tracer,
            clock=clock,
        )
        stack.push_async_callback(routers.close)

        async def is_ready() -> bool:
            return not stop.requested.is_set() and await routers.is_ready()

        frame = Frame(
            upstream=routers,
            trace_dir=config.telemetry.trace_dir,
            settings=settings,
            limits=config.limits,
            clock=clock,
            tracer=telemetry.tracer,
            instruments=GatewayInstruments(registry),
            is_ready=is_ready,
        )
        metrics = MetricsServer(
            settings.metrics_host,
            settings.metrics_port,
            registry,
            lambda: not stop.requested.is_set(),
        )
        metrics_port = metrics.start()
        stack.push_async_callback(asyncio.to_thread, metrics.stop)
        server = HttpServer(make_app(frame), settings, clock, frame.instruments.http_connections)
        port = await server.start()
        stack.push_async_callback(server.stop, 0)
        settle_collector()
        log.info(
            "process.ready",
            http_address=join_address(settings.host, port),
            metrics_address=join_address(settings.metrics_host, metrics_port),
            routers=settings.routers,
        )
        await stop.requested.wait()
        grace_s = settings.drain_s_max if stop.grace_s is None else stop.grace_s
        await server.stop(grace_s)


PROCESS: Final = ProcessSpec(
    program=SERVICE_NAME,
    about="The HTTP front door as a process of its own: REST, WebSocket and a page, before one or several routers.",
    own="gateway",
    sections={
        "gateway": GatewaySettings,
        "telemetry": TelemetrySettings,
        "limits": Limits,
        "cluster": ClusterSettings,
    },
    serve=serve,
)
