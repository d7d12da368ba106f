"""The composition root: the only file of the router that names concrete classes and owns their lifetimes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final, final

from opentelemetry.trace import Tracer
from prometheus_client import CollectorRegistry

from common.call_ticket import CallTickets
from common.clock import Clock
from common.discovery.api import Watcher
from common.logs import get_logger
from common.release import release
from common.resume_token import ResumeTokens
from common.rpc.auth import cluster_token_metadata
from common.rpc.bind import check_bind
from common.rpc.first_message import FirstMessageInterceptor
from common.rpc.interceptors import CallLogInterceptor, ErrorInterceptor
from common.rpc.metadata import ROUTER_ID_KEY
from common.rpc.server import RpcServer
from common.telemetry.instruments import GatewayInstruments, RouterInstruments
from common.telemetry.interceptors import TracingServerInterceptor
from common.telemetry.metrics import MetricsServer
from gateway.app import make_app
from gateway.frame import Frame
from gateway.kserve.facade import Facade
from gateway.kserve.service import SERVICE as KSERVE_SERVICE
from gateway.kserve.service import InferenceService
from gateway.server import HttpServer
from gateway.settings import GatewaySettings
from router.cluster_view import PoolView
from router.config import Config
from router.core.admission.demand import Band
from router.core.admission.gate import Admission
from router.core.alias import Aliases
from router.core.dispatcher import Dispatcher
from router.core.health.outliers import Outliers
from router.core.idempotency import IdempotencyTable
from router.core.policy.placed import PlacedPolicy
from router.core.policy.prefix_table import PrefixTable
from router.core.policy.registry import make_policy
from router.core.policy.scorers.prefix import PrefixScorer
from router.core.pool import EndpointPool, PoolSnapshot
from router.core.waiting import happens_within
from router.fleet.place import Ports
from router.http_door import RelayUpstream
from router.limits_of import (
    admission_limits,
    dispatch_limits,
    feed_limits,
    health_limits,
    outlet_limits,
)
from router.open_files import connections_within
from router.telemetry import RouterTelemetry
from router.transport.generate_codec import ProtoGenerateCodec
from router.transport.grpc_service import SERVICE, InferenceRelay
from router.transport.outlet import Outlets
from router.transport.rejoin import Rejoin
from router.transport.router_service import ROUTER_SERVICE, RouteExplainer
from router.transport.ticket_office import TicketOffice
from router.upstream.channels import worker_channels
from router.upstream.grpc_worker import GrpcWorker
from router.upstream.load_feed import LoadFeed
from router.upstream.membership import Membership
from router.upstream.prober import Prober

__all__ = ["Router", "check_binds", "running"]

_LAST_MESSAGES_S_MAX: Final = 2.0
"""Longest that the server waits for statuses to leave once every call was ended, seconds."""

log = get_logger(__name__)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """A router that serves."""

    config: Config
    ports: Ports
    pool: EndpointPool
    admission: Admission
    dispatcher: Dispatcher
    outlets: Outlets
    server: RpcServer
    http: HttpServer | None
    clock: Clock
    leaving: asyncio.Event
    """Set for good when a drain begins."""

    @property
    def port(self) -> int:
        """Of gRPC."""
        return self.ports.grpc

    @property
    def metrics_port(self) -> int:
        """Of `/metrics`."""
        return self.ports.metrics

    async def drain(self, grace_s: float | None = None) -> None:
        """Health says no, a moment later new calls are refused, running ones finish within `grace_s` seconds (default:
        `drain_s_max`), and what still runs then ends with `Unavailable(DRAINING)`.

        Cancellation: safe; leaving `running` then ends what still runs.
        """
        settings = self.config.router
        self.leaving.set()
        self.server.set_serving(False)
        log.info("router.draining", in_flight=self.dispatcher.in_flight)
        await self.clock.sleep(settings.drain_delay_s)
        self.dispatcher.refuse_new()
        grace_s = settings.drain_s_max if grace_s is None else grace_s
        until = self.clock.now() + grace_s
        if not await happens_within(self.dispatcher.idle, grace_s, self.clock):
            log.warning("router.drain_cut", in_flight=self.dispatcher.in_flight)
            self.dispatcher.cut()
            # Returns as soon as every status has left.
            await self.server.stop(_LAST_MESSAGES_S_MAX)
        elif not await happens_within(self.outlets.idle, until - self.clock.now(), self.clock):
            log.warning("router.drain_cut", slow_readers=len(self.outlets))
        if self.http is not None:
            await self.http.stop(_LAST_MESSAGES_S_MAX)


@asynccontextmanager
async def running(
    config: Config,
    *,
    watcher: Watcher,
    tracer: Tracer,
    clock: Clock,
    shares_port: bool = False,
) -> AsyncIterator[Router]:
    """A serving router for the length of the block.

    Raises `Conflict` at entry: a port in use, a bind that is not allowed, an unknown policy.
    """
    config = config.with_id()
    settings = config.router
    check_binds(config)
    aliases = Aliases(settings.aliases, Random())
    prefixes = PrefixTable(
        bytes_max=settings.prefix_table_bytes_max,
        ttl_s=settings.prefix_ttl_s,
        told_max=settings.prefix_told_max,
    )
    affinity = PrefixScorer(prefixes, clock) if settings.prefix_hashes_max else None
    policy = PlacedPolicy(make_policy(settings.policy, Random(), affinity))
    token = cluster_token_metadata(config.cluster.token)
    registry = CollectorRegistry()
    instruments = RouterInstruments(registry)
    observer = RouterTelemetry(tracer, instruments, clock)
    pool = EndpointPool(
        clock,
        hold_down_s_max=settings.hold_down_s_max,
        abandon_s=settings.abandon_s,
        remember_s=settings.remember_model_s,
        suspect_s=settings.load_silence_s_max,
        stream_silence_s_max=settings.stream_silence_s_max,
        mass_silence_s_max=settings.mass_silence_s_max,
        mass_vanish_s_max=settings.mass_vanish_s_max,
        slow_start_s=settings.slow_start_s,
        health=Outliers(health_limits(settings), Random()),
    )
    channels = worker_channels(tracer, message_bytes_max=settings.worker_message_bytes_max)
    admission = Admission(
        pool=pool,
        limits=admission_limits(settings),
        observer=observer,
        clock=clock,
        known_bytes=policy.known_bytes,
    )
    codec = ProtoGenerateCodec()
    dispatcher = Dispatcher(
        pool=pool,
        admission=admission,
        policy=policy,
        worker=GrpcWorker(channels, metadata=(*token, (ROUTER_ID_KEY, settings.id)), clock=clock),
        codec=codec,
        observer=observer,
        limits=dispatch_limits(settings),
        clock=clock,
        aliases=aliases.targets.keys(),
    )
    instruments.requests_in_flight.set_function(lambda: dispatcher.in_flight)
    instruments.direct_calls.set_function(lambda: len(dispatcher.direct.handouts))
    instruments.suspects.set_function(lambda: dispatcher.num_suspects)
    for band in Band:
        instruments.queue_waiting.labels(band=band.name.lower()).set_function(
            partial(admission.num_waiting, band)
        )
    server = _server(config, tracer, clock, shares_port=shares_port)
    outlets = Outlets(outlet_limits(settings), clock, on_cut=instruments.slow_readers_total.inc)
    instruments.waiting_bytes.set_function(lambda: outlets.waiting_bytes)
    relay = InferenceRelay(
        dispatcher=dispatcher,
        codec=codec,
        pool=pool,
        outlets=outlets,
        rejoin=_rejoin(config, pool, clock),
        office=TicketOffice(
            router_id=settings.id,
            tickets=CallTickets(config.cluster.token),
            ticket_s=settings.ticket_s,
            clock=clock,
        ),
        aliases=aliases,
        limits=config.limits,
        prefix_hashes_max=settings.prefix_hashes_max,
        clock=clock,
        done=observer.done,
    )
    server.add_service(SERVICE, relay.handlers())
    explainer = RouteExplainer(
        pool=pool,
        policy=policy,
        aliases=aliases,
        limits=config.limits,
        prefix_hashes_max=settings.prefix_hashes_max,
        cluster=config.cluster,
        clock=clock,
    )
    server.add_service(ROUTER_SERVICE, explainer.handlers())

    leaving = asyncio.Event()

    async def is_ready() -> bool:
        return pool.has_heard and not leaving.is_set()

    upstream = RelayUpstream(relay, config.limits, clock)
    facade = Facade(upstream=upstream, is_ready=is_ready, version=release())
    server.add_service(KSERVE_SERVICE, InferenceService(facade).handlers())

    def tick(snapshot: PoolSnapshot) -> None:
        observer.tick(snapshot)
        observer.trouble(
            frozen=pool.frozen,
            ejections_ignored=pool.num_ejections_ignored,
            bad_values=membership.num_bad_values,
        )
        there = [e for endpoints in snapshot.models.values() for e in endpoints]
        policy.retain(there)
        dispatcher.direct.handouts.sweep({(e.id, e.incarnation) for e in there})
        server.set_serving(pool.has_heard and not leaving.is_set())

    membership = Membership(
        watcher=watcher,
        pool=pool,
        feed=LoadFeed(
            pool=pool,
            handouts=dispatcher.direct.handouts,
            prefixes=prefixes if affinity and settings.prefix_told_max else None,
            channels=channels,
            router_id=settings.id,
            metadata=token,
            limits=feed_limits(settings),
            clock=clock,
            random=Random(),
        ),
        channels=channels,
        clock=clock,
        sweep_s=settings.sweep_s,
        prober=Prober(channels, metadata=token, seconds_max=settings.probe_s_max),
        on_tick=tick,
        on_ejection=observer.ejected,
    )
    metrics = MetricsServer(
        settings.metrics_host,
        settings.metrics_port,
        registry,
        lambda: pool.has_heard and not leaving.is_set(),
    )
    http = (
        _http_server(
            config.http,
            Frame(
                upstream=upstream,
                cluster=PoolView(pool, aliases, clock),
                trace_dir=config.telemetry.trace_dir,
                settings=config.http,
                limits=config.limits,
                clock=clock,
                tracer=tracer,
                instruments=GatewayInstruments(registry),
                is_ready=is_ready,
            ),
            shares_port=shares_port,
        )
        if config.http
        else None
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(channels.close)
        metrics_port = metrics.start()
        stack.push_async_callback(asyncio.to_thread, metrics.stop)
        port = await server.start()
        stack.push_async_callback(server.stop, 0)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(group.create_task(membership.run(), name="membership").cancel)
        stack.callback(group.create_task(admission.run(), name="admission").cancel)
        stack.callback(group.create_task(outlets.run(), name="outlets").cancel)
        stack.callback(group.create_task(dispatcher.direct.run(), name="direct").cancel)
        http_port = 0
        if http is not None:
            http_port = await http.start()
            stack.push_async_callback(http.stop, 0)
        yield Router(
            config=config,
            ports=Ports(grpc=port, metrics=metrics_port, http=http_port),
            pool=pool,
            admission=admission,
            dispatcher=dispatcher,
            outlets=outlets,
            server=server,
            http=http,
            clock=clock,
            leaving=leaving,
        )


def _rejoin(config: Config, pool: EndpointPool, clock: Clock) -> Rejoin:
    return Rejoin(
        pool=pool,
        tokens=ResumeTokens(config.cluster.token),
        keys=IdempotencyTable(
            clock,
            keys_max=config.router.idempotency_keys_max,
            keep_s=config.limits.idempotency_s,
        ),
    )


def _server(config: Config, tracer: Tracer, clock: Clock, *, shares_port: bool) -> RpcServer:
    return RpcServer(
        host=config.router.host,
        port=config.router.port,
        interceptors=(
            TracingServerInterceptor(tracer),
            CallLogInterceptor(clock),
            ErrorInterceptor(),
            FirstMessageInterceptor(config.limits.message_s_max),
        ),
        message_bytes_max=config.limits.transport_bytes_max,
        so_reuseport=shares_port,
        connections_max=connections_within(config.router.connections_max),
        calls_per_connection_max=config.router.calls_per_connection_max,
        peer_silence_s_max=config.router.client_silence_s_max,
    )


def _http_server(settings: GatewaySettings, frame: Frame, *, shares_port: bool) -> HttpServer:
    return HttpServer(
        make_app(frame),
        settings,
        frame.clock,
        frame.instruments.http_connections,
        shares_port=shares_port,
    )


def check_binds(config: Config) -> None:
    """Raises `Conflict(BIND_NOT_ALLOWED)` for a host of ours that may not be listened on."""
    hosts = [config.router.host, config.router.metrics_host]
    if config.http:
        hosts.append(config.http.host)
    for host in hosts:
        check_bind(host, insecure=config.cluster.insecure)
