"""The HTTP door as `lepton-gateway` opens it, in the test's process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from common.clock import SystemClock
from common.limits import Limits
from common.telemetry.instruments import GatewayInstruments
from gateway.app import make_app
from gateway.frame import Frame
from gateway.ports import Upstream
from gateway.server import HttpServer
from gateway.settings import GatewaySettings
from gateway.upstream.routers import Routers

__all__ = ["door_before", "routers_at"]


@asynccontextmanager
async def routers_at(addresses: Sequence[str], *, pause_s: float = 1.0) -> AsyncIterator[Routers]:
    """The routers as an upstream."""
    routers = Routers(
        addresses,
        message_bytes_max=4 << 20,
        pause_s=pause_s,
        tracer=TracerProvider(shutdown_on_exit=False).get_tracer("test"),
        clock=SystemClock(),
    )
    try:
        yield routers
    finally:
        await routers.close()


@asynccontextmanager
async def door_before(
    upstream: Upstream, settings: GatewaySettings | None = None
) -> AsyncIterator[str]:
    """http://host:port of a door before `upstream`."""
    settings = settings or GatewaySettings(port=0)

    async def is_ready() -> bool:
        return True

    frame = Frame(
        upstream=upstream,
        settings=settings,
        limits=Limits(),
        clock=SystemClock(),
        tracer=TracerProvider(shutdown_on_exit=False).get_tracer("test"),
        instruments=GatewayInstruments(CollectorRegistry()),
        is_ready=is_ready,
    )
    server = HttpServer(make_app(frame), settings, frame.clock, frame.instruments.http_connections)
    port = await server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.stop(0)
