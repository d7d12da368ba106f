"""Real workers behind two real routers, all in one process, and clients that come and go.

    async with resuming_cluster() as cluster:
        tap = cluster.tap(request(), router=0)
        await tap.read(num_chars=3)
        await tap.leave()
        resume = {"resume_token": tap.token, "after_seq": tap.seqs[-1]}
        rest = await cluster.tap(request(resume=resume), router=1).read()
        rest.check_rest(tap)

Tokens come when the test says so: `cluster.pace.allow(5)`, or `cluster.pace.free()`.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, final

import grpc
from opentelemetry.sdk.trace import TracerProvider

from common.clock import SystemClock
from common.cluster import ClusterSettings
from common.discovery.memory import MemoryRegistry
from common.errors import LeptonError
from common.limits import Limits
from common.rpc.metadata import CALLER_KEY, CLUSTER_TOKEN_KEY, FINISHED_KEY
from common.rpc.status import from_rpc_error
from gateway.settings import GatewaySettings
from lepton.v1 import inference_pb2
from router.app import Router, running
from router.config import Config
from router.core.endpoint import EndpointState
from router.settings import RouterSettings
from tests.support.continuation import whole
from tests.support.fake_runner import FakeRunner
from tests.support.patience import PATIENCE_S
from tests.support.processes import until
from tests.support.worker import GENERATE, LocalWorker, worker_of
from worker.engine.sequence import Sequence as EngineSequence

__all__ = ["NUM_TOKENS", "Pace", "ResumingCluster", "Tap", "request", "resuming_cluster", "text_of"]

ABORT = "/lepton.v1.InferenceService/Abort"
NUM_TOKENS = 20
RESUMABLE_MS = 600_000
"""Longer than any test waits: what is over sooner did not just expire."""
_TOKEN_S_MAX = 2 * PATIENCE_S


def text_of(num_tokens: int) -> str:
    """The whole answer to every request."""
    return "".join(chr(ord("a") + i % 26) for i in range(num_tokens))


def request(
    text: str = "hello",
    *,
    num_tokens: int = NUM_TOKENS,
    resumable_ms: int = RESUMABLE_MS,
    **fields: Any,
) -> inference_pb2.GenerateRequest:
    """A resumable one unless told otherwise."""
    if resumable_ms:
        fields["resumable_ms"] = resumable_ms
    return inference_pb2.GenerateRequest(text=text, stop={"max_tokens": num_tokens}, **fields)


@final
class Pace:
    """Lets tokens out."""

    def __init__(self) -> None:
        self._semaphore = threading.Semaphore(0)
        self._free = threading.Event()
        self.num_tokens = 0

    def allow(self, num_tokens: int) -> None:
        self._semaphore.release(num_tokens)

    def free(self) -> None:
        """From now on nothing waits."""
        self._free.set()
        self._semaphore.release(1000)

    def token(self, _sequence: EngineSequence, position: int) -> int:
        if not self._free.is_set():
            self._semaphore.acquire(timeout=_TOKEN_S_MAX)
        self.num_tokens += 1
        return ord("a") + position % 26


@dataclass(slots=True)
class Tap:
    """One client on one connection."""

    call: Any
    events: list[inference_pb2.Event] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    token: str = ""
    worker_id: str = ""
    error: LeptonError | None = None
    trailing: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    async def read(self, *, num_chars: int | None = None) -> Tap:
        """Reads until it has so many characters (each is a token), or to the end."""
        try:
            while num_chars is None or len(self.text) < num_chars:
                data = await self.call.read()
                if data is grpc.aio.EOF:
                    self.trailing = dict(await self.call.trailing_metadata() or ())
                    break
                self._take(inference_pb2.GenerateResponse.FromString(data))
        except grpc.aio.AioRpcError as error:
            self.error = from_rpc_error(error)
        return self

    def _take(self, response: inference_pb2.GenerateResponse) -> None:
        for event in response.events:
            self.events.append(event)
            self.seqs.append(event.seq)
            if event.HasField("started"):
                self.token, self.worker_id = event.started.resume_token, event.started.worker_id
            elif event.HasField("migrated"):
                self.token, self.worker_id = (
                    event.migrated.resume_token,
                    event.migrated.to_worker_id,
                )
            self.texts.append(event.delta.text)

    def check_whole(self, num_tokens: int = NUM_TOKENS) -> None:
        """It got everything once, in order, to a good end."""
        self._check_end(0)
        assert self.text == text_of(num_tokens)

    def check_moved(self, before: Tap | None = None) -> None:
        """Together with `before` it got the whole answer, and its stream moved once."""
        assert self.error is None, self.error
        events = [*(before.events if before else []), *self.events]
        assert sum(event.HasField("migrated") for event in events) == 1
        (answer,) = whole(events)["choices"].values()
        assert answer["text"] == text_of(NUM_TOKENS)

    def check_rest(self, before: Tap, after_seq: int | None = None) -> None:
        """It got what `before` did not have, or what comes after `after_seq`, likewise."""
        after_seq = before.seqs[-1] if after_seq is None else after_seq
        self._check_end(after_seq + 1)
        known = sum(seq <= after_seq for seq in before.seqs)
        assert "".join(before.texts[:known]) + self.text == text_of(NUM_TOKENS)

    def _check_end(self, first_seq: int) -> None:
        assert self.error is None, self.error
        assert self.seqs == list(range(first_seq, first_seq + len(self.seqs)))
        assert self.trailing[FINISHED_KEY]

    async def leave(self) -> None:
        """The connection is gone, as far as the server can tell."""
        self.call.cancel()


@dataclass(slots=True, kw_only=True)
class ResumingCluster:
    """Handles of everything that runs."""

    pace: Pace
    registry: MemoryRegistry
    workers: dict[str, LocalWorker]
    routers: list[Router]
    channels: list[grpc.aio.Channel]

    def http(self, router: int = 0) -> str:
        """http://host:port of a router's HTTP door."""
        return f"http://127.0.0.1:{self.routers[router].ports.http}"

    def tap(
        self,
        asked: inference_pb2.GenerateRequest,
        *,
        router: int = 0,
        caller: str = "",
        timeout_s: float = PATIENCE_S,
    ) -> Tap:
        metadata = ((CALLER_KEY, caller),) if caller else ()
        return Tap(
            self.channels[router].unary_stream(GENERATE)(
                asked.SerializeToString(), timeout=timeout_s, metadata=metadata
            )
        )

    def tap_worker(self, worker_id: str, asked: inference_pb2.GenerateRequest) -> Tap:
        """As a router would ask that worker."""
        metadata = ((CLUSTER_TOKEN_KEY, "sesame"),)
        return Tap(self.workers[worker_id].call(asked.SerializeToString(), metadata=metadata))

    async def abort(self, token: str, *, router: int = 0, caller: str = "") -> LeptonError | None:
        """None when it was accepted."""
        metadata = ((CALLER_KEY, caller),) if caller else ()
        payload = inference_pb2.AbortRequest(resume_token=token).SerializeToString()
        call: Any = self.channels[router].unary_unary(ABORT)(
            payload, timeout=PATIENCE_S, metadata=metadata
        )
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error)
        return None

    async def kill(self, worker_id: str) -> None:
        """As `kill -9` looks from outside: every connection breaks, and nothing is computed any more."""
        running = self.workers[worker_id].running
        await running._server.stop(0)
        for held in list(running.calls._calls.values()):
            running.calls.abort(held.call)

    def give_up(self, worker_id: str, *, router: int = 0) -> None:
        """The router gives up its calls there, as after a silence."""
        entry = self.routers[router].pool._there.get(worker_id)
        assert entry is not None
        for tracked in tuple(entry.calls):
            tracked.abandon()

    def keeps(self, worker_id: str) -> int:
        """Calls that the worker knows."""
        return self.workers[worker_id].running.calls.num_calls

    async def until_ready(self, num_workers: int) -> None:
        """Every router takes so many workers."""
        await until(
            lambda: all(_num_ready(router) == num_workers for router in self.routers),
            what=f"{num_workers} workers",
        )

    def num_kept(self) -> int:
        return sum(worker.running.calls.num_calls for worker in self.workers.values())

    def num_bytes(self) -> int:
        return sum(worker.running.calls.num_bytes for worker in self.workers.values())

    def num_computing(self) -> int:
        loads = [worker.running.engine.load() for worker in self.workers.values()]
        return sum(load.running + load.waiting for load in loads)

    async def until_alone(self) -> None:
        """Nobody is connected any more."""
        await until(
            lambda: not any(worker.running.in_flight.num_calls for worker in self.workers.values()),
            what="no connections",
        )

    async def until_nothing_is_left(self) -> None:
        await until(
            lambda: not (self.num_kept() or self.num_bytes() or self.num_computing()),
            what=f"nothing left; {self.num_kept()} calls, {self.num_bytes()} bytes",
        )


@asynccontextmanager
async def resuming_cluster(
    worker_ids: Sequence[str] = ("w1", "w2"),
    *,
    num_routers: int = 2,
    token: str = "sesame",  # noqa: S107 - of a test
    limits: Limits | None = None,
    num_slots: int = 8,
    gateway: GatewaySettings | None = None,
    router: Mapping[str, Any] | None = None,
    **worker_settings: Any,
) -> AsyncIterator[ResumingCluster]:
    """With a cluster token unless told otherwise; `worker_settings` are of section `worker`, `router` of
    section `router`."""
    registry, pace = MemoryRegistry(), Pace()
    limits = limits or Limits(resumable_ms_max=RESUMABLE_MS)
    cluster = ClusterSettings.model_validate({"token": token})
    router_settings = dict(router or {})
    async with AsyncExitStack() as stack:
        workers = {
            worker_id: await stack.enter_async_context(
                worker_of(
                    FakeRunner(num_slots=num_slots, capacity=20_000, tokens=pace.token),
                    worker_id=worker_id,
                    found_in=registry,
                    token=token,
                    limits=limits,
                    **worker_settings,
                )
            )
            for worker_id in worker_ids
        }
        routers, channels = [], []
        for number in range(num_routers):
            config = Config(
                router=RouterSettings(
                    id=f"r{number}",
                    port=0,
                    metrics_port=0,
                    load_interval_ms=20,
                    sweep_s=0.02,
                    **router_settings,
                ),
                cluster=cluster,
                limits=limits,
                gateway=gateway,
            )
            made = await stack.enter_async_context(
                running(
                    config,
                    watcher=registry,
                    tracer=TracerProvider(shutdown_on_exit=False).get_tracer("test"),
                    clock=SystemClock(),
                )
            )
            routers.append(made)
            channels.append(
                await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{made.port}"))
            )
        stack.callback(pace.free)  # first of all: engines that wait cannot end
        found = ResumingCluster(
            pace=pace, registry=registry, workers=workers, routers=routers, channels=channels
        )
        await found.until_ready(len(worker_ids))
        yield found


def _num_ready(router: Router) -> int:
    endpoints = [e for found in router.pool.snapshot().models.values() for e in found]
    return sum(endpoint.state is EndpointState.READY for endpoint in endpoints)
