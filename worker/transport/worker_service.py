"""`lepton.v1.WorkerService`: load, facts and drain, for routers and operators' tools only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, final

import grpc

from common.clock import Clock
from common.cluster import ClusterSettings
from common.errors import Forbidden, InvalidRequest, Reason
from common.request.parse import parse_message
from common.rpc.auth import is_router
from common.rpc.handlers import raw_unary_stream, raw_unary_unary
from lepton.v1 import worker_pb2
from worker.engine.load import EngineLoad
from worker.engine.prefix_digest import NO_NEWS, DigestNews, PrefixDigest
from worker.tasks.api import ModelFacts
from worker.transport.call_context import ServicerContext, deadline_of
from worker.transport.encode import encode_model
from worker.transport.in_flight import InFlight
from worker.transport.tickets import TicketDesk

__all__ = ["SERVICE_NAME", "WorkerFacts", "WorkerService"]

SERVICE_NAME: Final = "lepton.v1.WorkerService"

_INTERVAL_MS_DEFAULT: Final = 50
_INTERVAL_MS: Final = (10, 10_000)
_ROUTER_ID_CHARS_MAX: Final = 128
_PROBE_S_MAX: Final = 30.0
"""Longest probe of a caller that brings no deadline, seconds."""
_GRACE_MS_MAX: Final = 3_600_000
"""An hour, as for the setting `worker.drain_s_max`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFacts:
    """What this process is; never changes."""

    worker_id: str
    incarnation: str
    """Unique per process start."""
    version: str
    """Release of Lepton."""
    tasks: tuple[str, ...]
    model: ModelFacts


@final
class WorkerService:
    """Every call needs the cluster token.

    `load` is asked for each report and must be quick. `probe` asks the model what it answered at the start, until a
    deadline (on `clock`). `drain` is called once per Drain call, with the longest time that
    running calls get (seconds; None: the setting of the worker), and must return at once.
    """

    def __init__(
        self,
        *,
        facts: WorkerFacts,
        load: Callable[[], EngineLoad],
        prefixes: PrefixDigest,
        probe: Callable[[float], Awaitable[bool]],
        drain: Callable[[float | None], None],
        in_flight: InFlight,
        tickets: TicketDesk,
        cluster: ClusterSettings,
        push_ms_min: int,
        clock: Clock,
    ) -> None:
        self._facts = facts
        self._load = load
        self._prefixes = prefixes
        self._probe = probe
        self._drain = drain
        self._in_flight = in_flight
        self._tickets = tickets
        self._cluster = cluster
        self._push_s_min = push_ms_min / 1000
        self._clock = clock

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """By method name, for `RpcServer.add_service`."""
        return {
            "WatchLoad": raw_unary_stream(self.watch_load),
            "GetInfo": raw_unary_unary(self.get_info),
            "Probe": raw_unary_unary(self.probe),
            "Drain": raw_unary_unary(self.drain),
        }

    async def watch_load(
        self, payload: bytes, context: ServicerContext
    ) -> AsyncGenerator[bytes, None]:
        """Yields the load: at once, after a change that matters to who chooses (at most every `push_ms_min`), at least
        every `interval_ms`; to who asks for it with what is new in the prefix cache.

        It ends with the caller or when the worker leaves. Errors: `Forbidden`, `InvalidRequest`.
        """
        self._check_router(context)
        request = parse_message(worker_pb2.WatchLoadRequest, payload)
        router_id, interval_s = _watch_parameters(request)
        heard: int | None = None
        """Of the prefix cache's changes: up to which one the router knows them."""
        told: tuple[object, ...] | None = None
        told_at = self._clock.now()
        while not self._in_flight.closed:
            load = self._load()
            standing = self._standing(load, router_id)
            news = self._prefixes.since(heard) if request.prefixes else NO_NEWS
            now = self._clock.now()
            if standing != told or news or now - told_at >= interval_s:
                told, told_at, heard = standing, now, news.number
                # Of serialised messages one behind the other the fields add up.
                yield self._report(load, router_id).SerializeToString() + _encode_news(news)
                await self._clock.sleep(self._push_s_min)
            else:
                await self._in_flight.changed(self._wait_s(load, told_at + interval_s - now))

    async def get_info(self, payload: bytes, context: ServicerContext) -> bytes:
        """What this worker is."""
        self._check_router(context)
        parse_message(worker_pb2.GetInfoRequest, payload)
        facts = self._facts
        return worker_pb2.GetInfoResponse(
            worker_id=facts.worker_id,
            incarnation=facts.incarnation,
            model=encode_model(facts.model, tasks=facts.tasks),
            fingerprint=facts.model.fingerprint,
            version=facts.version,
            state=self._state(),
        ).SerializeToString()

    async def probe(self, payload: bytes, context: ServicerContext) -> bytes:
        """Whether the model still answers as it did at the start. Errors: `Forbidden`, `InvalidRequest`, and what a
        Generate would get: `Overloaded`, `Unavailable`, `Internal`.
        """
        self._check_router(context)
        parse_message(worker_pb2.ProbeRequest, payload)
        began_at = self._clock.now()
        deadline = deadline_of(context, now=began_at, deadline_s_max=_PROBE_S_MAX)
        passed = await self._probe(deadline)
        return worker_pb2.ProbeResponse(
            passed=passed, duration_us=round(1e6 * (self._clock.now() - began_at))
        ).SerializeToString()

    async def drain(self, payload: bytes, context: ServicerContext) -> bytes:
        """Begins the end of the process and returns at once. Errors: `Forbidden`, `InvalidRequest`."""
        self._check_router(context)
        request = parse_message(worker_pb2.DrainRequest, payload)
        if request.grace_ms > _GRACE_MS_MAX:
            raise InvalidRequest(
                f"grace_ms is {request.grace_ms}; at most {_GRACE_MS_MAX}",
                reason=Reason.FIELD_OUT_OF_RANGE,
                field="grace_ms",
            )
        self._drain(request.grace_ms / 1000 if request.HasField("grace_ms") else None)
        return worker_pb2.DrainResponse(num_running=self._in_flight.num_calls).SerializeToString()

    def _standing(self, load: EngineLoad, router_id: str) -> tuple[object, ...]:
        """What is told as soon as it changes. Progress alone is not among it: to tell of every step costs a router as
        much as the step's tokens do, and whoever watches for progress is patient (`interval_ms`).
        """
        tickets = self._tickets.counts_of(router_id)
        return (
            self._state(),
            load.step_ends_in_ms is None,
            load.running,
            load.waiting,
            load.waiting_tokens,
            self._in_flight.num_calls_of(router_id),
            # It goes on counting, so what was told is kept as bytes.
            b"" if tickets is None else tickets.SerializeToString(),
        )

    def _wait_s(self, load: EngineLoad, until_interval_s: float) -> float:
        """Steps tell nobody that they happened, so while there is work the load is looked at every `push_ms_min`.

        A call that was cancelled leaves work behind until the step ends.
        """
        if self._in_flight.num_calls or load.running or load.waiting:
            return min(self._push_s_min, until_interval_s)
        return until_interval_s

    def _report(self, load: EngineLoad, router_id: str) -> worker_pb2.WatchLoadResponse:
        return worker_pb2.WatchLoadResponse(
            state=self._state(),
            step=load.step,
            step_ends_in_ms=load.step_ends_in_ms,
            running=load.running,
            waiting=load.waiting,
            rows_max=load.rows_max,
            waiting_tokens=load.waiting_tokens,
            kv_usage=load.kv_usage,
            in_flight_of_router=self._in_flight.num_calls_of(router_id),
            incarnation=self._facts.incarnation,
            step_ms=1000 * (load.speed.step_s or 0.0),
            prefill_tokens_per_s=load.speed.prefill_tokens_per_s,
            decode_tokens_per_s=load.speed.decode_tokens_per_s,
            decode_rows=load.speed.decode_rows,
            tickets=self._tickets.counts_of(router_id),
        )

    def _state(self) -> worker_pb2.WorkerState:
        draining = self._in_flight.draining
        return worker_pb2.WORKER_STATE_DRAINING if draining else worker_pb2.WORKER_STATE_SERVING

    def _check_router(self, context: ServicerContext) -> None:
        if not is_router(context, self._cluster):
            raise Forbidden(
                "this call is for routers; it needs the cluster token",
                reason=Reason.CLUSTER_TOKEN_INVALID,
            )


def _encode_news(news: DigestNews) -> bytes:
    if not news:
        return b""
    return worker_pb2.WatchLoadResponse(
        prefixes=worker_pb2.PrefixNews(is_whole=news.is_whole, held=news.held, gone=news.gone)
    ).SerializeToString()


def _watch_parameters(request: worker_pb2.WatchLoadRequest) -> tuple[str, float]:
    low, high = _INTERVAL_MS
    interval_ms = request.interval_ms if request.HasField("interval_ms") else _INTERVAL_MS_DEFAULT
    if not low <= interval_ms <= high:
        raise InvalidRequest(
            f"interval_ms is {interval_ms}; the range is {low} to {high}",
            reason=Reason.FIELD_OUT_OF_RANGE,
            field="interval_ms",
        )
    if len(request.router_id) > _ROUTER_ID_CHARS_MAX:
        raise InvalidRequest(
            f"router_id has more than {_ROUTER_ID_CHARS_MAX} characters",
            reason=Reason.FIELD_TOO_LARGE,
            field="router_id",
        )
    return request.router_id, interval_ms / 1000
