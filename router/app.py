"""The composition root: the only file of the router that names concrete classes and owns their lifetimes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final, final

from grpc.aio import Channel
from prometheus_client import CollectorRegistry

from common.clock import Clock, SystemClock
from common.cluster import ClusterSettings
from common.discovery.api import Watcher
from common.discovery.open import open_watcher
from common.discovery.settings import DiscoverySettings
from common.limits import Limits
from common.logs import get_logger
from common.rpc.auth import cluster_token_metadata
from common.rpc.bind import check_bind
from common.rpc.channel import open_channel
from common.rpc.interceptors import CallLogInterceptor, ErrorInterceptor
from common.rpc.metadata import ROUTER_ID_KEY
from common.rpc.server import RpcServer
from common.settings import Section
from common.telemetry.instruments import RouterInstruments
from common.telemetry.interceptors import TracingServerInterceptor, tracing_client_interceptors
from common.telemetry.metrics import MetricsServer
from common.telemetry.settings import TelemetrySettings
from common.telemetry.setup import Telemetry, setup_telemetry
from router.core.dispatcher import Dispatcher, DispatchLimits
from router.core.policy.registry import make_policy
from router.core.pool import EndpointPool, PoolSnapshot
from router.core.retry import RetryLimits
from router.core.waiting import happens_within
from router.settings import RouterSettings
from router.telemetry import RouterTelemetry
from router.transport.grpc_service import SERVICE, InferenceRelay
from router.upstream.channels import Channels
from router.upstream.grpc_worker import GrpcWorker
from router.upstream.load_feed import LoadFeed, LoadFeedLimits
from router.upstream.membership import Membership

__all__ = ["SECTIONS", "Config", "Router", "running"]

SERVICE_NAME: Final = "lepton-router"

SECTIONS: Final[dict[str, type[Section]]] = {
    "router": RouterSettings,
    "discovery": DiscoverySettings,
    "telemetry": TelemetrySettings,
    "limits": Limits,
    "cluster": ClusterSettings,
}
"""What a router reads of the settings."""

_READ_AHEAD: Final = 4
"""The transport takes requests so many times larger than allowed, so that the refusal can name the field."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of one router process."""

    router: RouterSettings = field(default_factory=RouterSettings)
    discovery: DiscoverySettings = field(default_factory=DiscoverySettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    limits: Limits = field(default_factory=Limits)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)

    def with_id(self) -> Config:
        """The same with a router id: the configured one, else a new one."""
        if self.router.id:
            return self
        made = self.router.model_copy(update={"id": f"router-{uuid.uuid4().hex[:8]}"})
        return replace(self, router=made)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """A router that serves."""

    id: str
    port: int
    metrics_port: int
    pool: EndpointPool
    dispatcher: Dispatcher
    server: RpcServer
    config: Config
    clock: Clock

    async def drain(self) -> None:
        """Health says no, a moment later new calls are refused, running ones finish within `drain_s_max`.

        Cancellation: safe; leaving `running` then ends what still runs.
        """
        settings = self.config.router
        self.server.set_serving(False)
        log.info("router.draining", in_flight=self.dispatcher.in_flight)
        await self.clock.sleep(settings.drain_delay_s)
        self.dispatcher.refuse_new()
        if not await happens_within(self.dispatcher.idle, settings.drain_s_max, self.clock):
            log.warning("router.drain_cut", in_flight=self.dispatcher.in_flight)


@asynccontextmanager
async def running(
    config: Config,
    *,
    env: Mapping[str, str],
    watcher: Watcher | None = None,
    telemetry: Telemetry | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Router]:
    """A serving router for the length of the block. `watcher` and `telemetry` replace what the settings say.

    Raises `Conflict` at entry: a port in use, a bind that is not allowed, no registry, an unknown policy.
    """
    config = config.with_id()
    settings = config.router
    for host in (settings.host, settings.metrics_host):
        check_bind(host, insecure=config.cluster.insecure)
    clock = clock or SystemClock()
    policy = make_policy(settings.policy, Random())
    watcher = watcher or open_watcher(config.discovery, clock)
    async with AsyncExitStack() as stack:
        if telemetry is None:
            telemetry = setup_telemetry(
                config.telemetry, service=SERVICE_NAME, instance_id=settings.id, env=env
            )
            stack.callback(telemetry.shutdown)
        tracer = telemetry.tracer
        registry = CollectorRegistry()
        instruments = RouterInstruments(registry)
        observer = RouterTelemetry(tracer, instruments, clock)
        token = cluster_token_metadata(config.cluster.token)
        pool = EndpointPool(
            clock,
            hold_down_s_max=settings.hold_down_s_max,
            abandon_s=settings.abandon_s,
            remember_s=settings.remember_model_s,
        )

        def open_to(address: str) -> Channel:
            return open_channel(
                address,
                interceptors=tracing_client_interceptors(tracer, address=address),
                message_bytes_max=settings.worker_message_bytes_max,
            )

        channels = Channels(open_to)
        stack.push_async_callback(channels.close)
        dispatcher = Dispatcher(
            pool=pool,
            policy=policy,
            worker=GrpcWorker(
                channels, metadata=(*token, (ROUTER_ID_KEY, settings.id)), clock=clock
            ),
            observer=observer,
            limits=_dispatch_limits(settings),
            clock=clock,
        )
        instruments.requests_in_flight.set_function(lambda: dispatcher.in_flight)
        relay = InferenceRelay(
            dispatcher=dispatcher,
            pool=pool,
            limits=config.limits,
            clock=clock,
            done=observer.done,
        )
        server = RpcServer(
            host=settings.host,
            port=settings.port,
            interceptors=(
                TracingServerInterceptor(tracer),
                CallLogInterceptor(clock),
                ErrorInterceptor(),
            ),
            message_bytes_max=config.limits.message_bytes_max * _READ_AHEAD,
        )
        server.add_service(SERVICE, relay.handlers())

        def tick(snapshot: PoolSnapshot) -> None:
            observer.tick(snapshot)
            server.set_serving(pool.has_heard and not dispatcher.is_refusing)

        membership = Membership(
            watcher=watcher,
            pool=pool,
            feed=LoadFeed(
                pool=pool,
                channels=channels,
                router_id=settings.id,
                metadata=token,
                limits=LoadFeedLimits(
                    interval_ms=settings.load_interval_ms,
                    silence_s_max=settings.load_silence_s_max,
                    reconnect_s_min=settings.load_reconnect_s_min,
                    reconnect_s_max=settings.load_reconnect_s_max,
                ),
                clock=clock,
                random=Random(),
            ),
            channels=channels,
            clock=clock,
            sweep_s=settings.sweep_s,
            on_tick=tick,
        )
        metrics = MetricsServer(
            settings.metrics_host, settings.metrics_port, registry, lambda: pool.has_heard
        )
        metrics_port = metrics.start()
        stack.callback(metrics.stop)
        port = await server.start()
        stack.push_async_callback(server.stop, 0)
        follower = await stack.enter_async_context(asyncio.TaskGroup())
        following = follower.create_task(membership.run(), name="membership")
        stack.callback(following.cancel)
        yield Router(
            id=settings.id,
            port=port,
            metrics_port=metrics_port,
            pool=pool,
            dispatcher=dispatcher,
            server=server,
            config=config,
            clock=clock,
        )


def _dispatch_limits(settings: RouterSettings) -> DispatchLimits:
    return DispatchLimits(
        in_flight_max=settings.in_flight_max,
        wait_for_worker_s_max=settings.wait_for_worker_s_max,
        retry=RetryLimits(
            retries_max=settings.retries_max,
            budget_ratio=settings.retry_budget_ratio,
            budget_per_s=settings.retry_budget_per_s,
            budget_burst=settings.retry_budget_burst,
        ),
    )
