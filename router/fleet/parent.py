"""The parent: holds the port, keeps as many children as wished, and shows them as one router.

No call passes through it. Each child is a router of its own, towards clients and towards workers; the kernel deals new
connections to whoever listens (SO_REUSEPORT). ADR 0019 says what follows from that.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from random import Random
from typing import Final

from prometheus_client import CollectorRegistry

from common.clock import Clock
from common.logs import get_logger
from common.process import StopRequest
from common.settings import ENV_PREFIX, Section, to_env
from common.telemetry.instruments import FleetInstruments
from common.telemetry.metrics import MetricsServer
from router.fleet.pages import Pages
from router.fleet.place import OnReady, Place, Ports, RestartLimits
from router.fleet.port import shared_port
from router.settings import RouterSettings

__all__ = ["serve_fleet"]

STOP_SLACK_S: Final = 10.0
"""What a child may take beside its drain before it is killed, seconds."""

log = get_logger(__name__)


async def serve_fleet(
    sections: Mapping[str, Section],
    stop: StopRequest,
    *,
    http: tuple[str, int] | None,
    on_ready: OnReady,
    clock: Clock,
    random: Random,
) -> None:
    """Runs `router.processes` children until `stop`, then until they have drained.

    `http` is host and port of their HTTP door. Raises `Conflict` when a port is taken or the first children refuse to
    start. Cancellation: kills the children.
    """
    settings = sections["router"]
    assert isinstance(settings, RouterSettings)  # noqa: S101
    registry = CollectorRegistry()
    instruments = FleetInstruments(registry)
    async with AsyncExitStack() as stack:
        port = stack.enter_context(shared_port(settings.host, settings.port))
        http_port = stack.enter_context(shared_port(*http)) if http else 0
        shared = {
            **sections,
            "router": settings.model_copy(update={"port": port}),
            "gateway": sections["gateway"].model_copy(update={"port": http_port}),
        }
        places = [
            Place(
                str(index),
                env=_env_of_child(shared, index),
                limits=RestartLimits(
                    wait_s_min=settings.restart_s_min, wait_s_max=settings.restart_s_max
                ),
                on_restart=instruments.router_process_restarts_total.labels(process=str(index)).inc,
                clock=clock,
                random=random,
            )
            for index in range(settings.processes)
        ]
        pages = Pages(lambda: _ports_of(places))
        instruments.router_processes.set_function(lambda: len(_ports_of(places)))
        registry.register(pages)
        metrics = MetricsServer(
            settings.metrics_host,
            settings.metrics_port,
            registry,
            lambda: not stop.requested.is_set() and pages.any_ready(),
        )
        ports = Ports(grpc=port, metrics=metrics.start(), http=http_port)
        stack.push_async_callback(asyncio.to_thread, metrics.stop)
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(place.run(), name=f"place-{place.name}") for place in places
            ]
            announcing = group.create_task(
                _announce(places, lambda: on_ready(ports)), name="announce"
            )
            await stop.requested.wait()
            announcing.cancel()
            for place in places:
                place.stop()
            await _ended(
                running, within_s=settings.drain_delay_s + settings.drain_s_max + STOP_SLACK_S
            )


async def _announce(places: list[Place], tell: Callable[[], None]) -> None:
    for place in places:
        await place.ready.wait()
    tell()


async def _ended(running: list[asyncio.Task[None]], *, within_s: float) -> None:
    _, late = await asyncio.wait(running, timeout=within_s)
    for task in late:
        log.warning("fleet.process_killed", task=task.get_name(), after_s=within_s)
        task.cancel()


def _ports_of(places: list[Place]) -> dict[str, int]:
    """Process → metrics port of those that serve; may be asked from any thread."""
    return {place.name: port for place in places if (port := place.metrics_port) is not None}


def _env_of_child(sections: Mapping[str, Section], index: int) -> dict[str, str]:
    """Our own environment with every setting spelled out, so that a child that starts later starts alike."""
    settings = sections["router"]
    assert isinstance(settings, RouterSettings)  # noqa: S101
    own = settings.model_copy(
        update={
            "id": f"{settings.id}-{index}",
            "processes": 1,
            "metrics_host": "127.0.0.1",
            "metrics_port": 0,
        }
    )
    rest = {name: text for name, text in os.environ.items() if not name.startswith(ENV_PREFIX)}
    return {**rest, **to_env({**sections, "router": own})}
