"""A real router in front of fake workers, found through the memory registry, all on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.sdk.trace import TracerProvider

from common.clock import SystemClock
from common.cluster import ClusterSettings
from common.discovery.api import Registration
from common.discovery.memory import MemoryRegistry
from common.errors import LeptonError
from common.limits import Limits
from common.rpc.metadata import FINISHED_KEY
from common.rpc.status import from_rpc_error
from common.telemetry.setup import Telemetry
from gateway.settings import GatewaySettings
from lepton.v1 import inference_pb2
from router.app import Router, running
from router.config import Config
from router.core.endpoint import Endpoint, EndpointState
from router.settings import RouterSettings
from tests.support.fake_worker import FakeWorker
from tests.support.patience import PATIENCE_S

__all__ = ["Answer", "SmallCluster", "ask", "small_cluster", "until"]

GENERATE = "/lepton.v1.InferenceService/Generate"


async def until(
    condition: Callable[[], bool], *, within_s: float = PATIENCE_S, what: str = ""
) -> None:
    """Returns when `condition` holds; fails after `within_s`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not condition():
        assert loop.time() < deadline, f"not within {within_s:g} s: {what or condition}"
        await asyncio.sleep(0.005)  # noqa: TID251 - the condition has no event


@dataclass(slots=True, kw_only=True)
class Answer:
    """What a client got."""

    messages: list[bytes] = field(default_factory=list)
    error: LeptonError | None = None
    code: grpc.StatusCode = grpc.StatusCode.OK
    initial: dict[str, Any] = field(default_factory=dict)
    trailing: dict[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bytes | None:
        return self.trailing.get(FINISHED_KEY)


async def ask(
    channel: grpc.aio.Channel,
    request: inference_pb2.GenerateRequest | bytes,
    *,
    timeout_s: float | None = PATIENCE_S,
    metadata: tuple[tuple[str, str], ...] = (),
) -> Answer:
    """One Generate, to its end, as bytes."""
    payload = request if isinstance(request, bytes) else request.SerializeToString()
    call: Any = channel.unary_stream(GENERATE)(payload, timeout=timeout_s, metadata=metadata)
    answer = Answer()
    try:
        async for message in call:
            answer.messages.append(message)
    except grpc.aio.AioRpcError as error:
        answer.error = from_rpc_error(error)
        answer.code = error.code()
    answer.initial = dict(await call.initial_metadata() or ())
    answer.trailing = dict(await call.trailing_metadata() or ())
    return answer


@dataclass(slots=True, kw_only=True)
class SmallCluster:
    """Handles of everything that runs."""

    router: Router
    channel: grpc.aio.Channel
    registry: MemoryRegistry
    """Or whatever stands in for it; its tricks are then not there."""
    workers: dict[str, FakeWorker]
    registrations: dict[str, Registration]

    @property
    def http(self) -> str:
        """http://host:port of the router's HTTP door."""
        return f"http://127.0.0.1:{self.router.ports.http}"

    async def ask(self, model: str = "tiny", **fields: Any) -> Answer:
        """One valid Generate."""
        timeout_s = fields.pop("timeout_s", PATIENCE_S)
        fields.setdefault("text", "hello")
        request = inference_pb2.GenerateRequest(model=model, **fields)
        return await ask(self.channel, request, timeout_s=timeout_s)

    def endpoints(self) -> dict[str, Endpoint]:
        """The router's view, by worker id."""
        snapshot = self.router.pool.snapshot()
        return {e.id: e for endpoints in snapshot.models.values() for e in endpoints}

    async def until_state(self, worker_id: str, state: EndpointState | None) -> None:
        """Waits until the router sees the worker so (None: not at all)."""

        def holds() -> bool:
            endpoint = self.endpoints().get(worker_id)
            return (endpoint.state if endpoint else None) is state

        await until(holds, what=f"{worker_id} is {state}, now {self.router.pool!r}")

    async def has_metric(self, line: str) -> bool:
        """Whether the router's `/metrics` has that line now."""
        port = self.router.metrics_port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        return line in text.splitlines()

    async def add(self, worker: FakeWorker) -> FakeWorker:
        """Starts, registers, and waits until the router takes it."""
        if not worker.incarnation:
            await worker.start()
        self.workers[worker.id] = worker
        self.registrations[worker.id] = await self.registry.register(worker.instance())
        await self.until_state(worker.id, EndpointState.READY)
        return worker


@asynccontextmanager
async def small_cluster(
    *workers: FakeWorker,
    registry: MemoryRegistry | None = None,
    telemetry: Telemetry | None = None,
    cluster: ClusterSettings | None = None,
    gateway: GatewaySettings | None = None,
    limits: Limits | None = None,
    **settings: Any,
) -> AsyncIterator[SmallCluster]:
    """Workers, registry, router and one client channel; `settings` are of section `router`.

    Leaving stops everything; workers that were handed in are stopped too.
    """
    registry = registry or MemoryRegistry()
    registrations: dict[str, Registration] = {}

    async def close_registrations() -> None:
        for registration in registrations.values():
            await registration.close()

    settings = {
        "port": 0,
        "metrics_port": 0,
        "sweep_s": 0.02,
        "load_interval_ms": 20,
        "load_reconnect_s_min": 0.01,
        "load_reconnect_s_max": 0.05,
        "wait_for_worker_s_max": 1.0,
        "drain_delay_s": 0.0,
        "slow_start_s": 0.0,
        **settings,
    }
    config = Config(
        router=RouterSettings(**settings),
        cluster=cluster or ClusterSettings(),
        limits=limits or Limits(),
        gateway=gateway,
    )
    tracer = (telemetry or Telemetry(TracerProvider(), None, shutdown_s_max=1.0)).tracer
    async with AsyncExitStack() as stack:
        stack.push_async_callback(close_registrations)
        for worker in workers:
            await worker.start()
            stack.push_async_callback(worker.stop)
        router = await stack.enter_async_context(
            running(config, watcher=registry, tracer=tracer, clock=SystemClock())
        )
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(f"127.0.0.1:{router.port}")
        )
        found = SmallCluster(
            router=router,
            channel=channel,
            registry=registry,
            workers={},
            registrations=registrations,
        )
        for worker in workers:
            await found.add(worker)
        yield found
