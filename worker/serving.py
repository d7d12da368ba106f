"""A worker from its parts: engine, tasks, services, gRPC server, entry in the registry, and the order of their ends."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import secrets
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, final

import grpc
from opentelemetry.trace import Tracer

from common.call_ticket import CallTickets
from common.clock import Clock
from common.cluster import ClusterSettings
from common.discovery.api import Instance, Registrar
from common.limits import Limits
from common.logs import get_logger
from common.process import StopRequest
from common.resume_token import ResumeTokens
from common.rpc.first_message import FirstMessageInterceptor
from common.rpc.interceptors import CallLogInterceptor, ErrorInterceptor
from common.rpc.server import RpcServer
from common.telemetry.instruments import WorkerInstruments
from common.telemetry.interceptors import TracingServerInterceptor
from worker.addresses import advertised
from worker.engine.golden import ANY_ANSWER, GoldenQuestion, ask
from worker.engine.loop import EngineLoop
from worker.engine.ports import ModelRunner
from worker.registration import Announcement
from worker.settings import WorkerSettings
from worker.tasks.api import ModelFacts
from worker.tasks.ports import GrammarCompiler, Tokenizer
from worker.tasks.registry import make_tasks
from worker.tasks.tokenizer_pool import TokenizerPool
from worker.transport import inference_service, worker_service
from worker.transport.call_report import CallReporter
from worker.transport.in_flight import InFlight
from worker.transport.inference_service import InferenceService
from worker.transport.resumable_calls import ReplayLimits, ResumableCalls
from worker.transport.resumption import Resumption
from worker.transport.self_pick import SelfPick
from worker.transport.tickets import TicketDesk
from worker.transport.worker_service import WorkerFacts, WorkerService

__all__ = ["RunningWorker", "WorkerParts", "open_worker"]

_LAST_MESSAGES_S_MAX: Final = 2.0
"""Longest that the server waits for statuses to leave once every call has ended, seconds."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerParts:
    """What a worker is made of; tests put fakes where the process puts the real thing."""

    worker_id: str
    settings: WorkerSettings
    limits: Limits
    cluster: ClusterSettings
    model: ModelFacts
    tokenizer: Tokenizer
    grammars: GrammarCompiler
    runner: ModelRunner
    registrar: Registrar
    tracer: Tracer
    instruments: WorkerInstruments
    metrics_address: str
    clock: Clock
    question: GoldenQuestion = ANY_ANSWER
    """What probes ask."""
    interceptors: tuple[grpc.aio.ServerInterceptor, ...] = ()
    """Innermost on the gRPC server."""


@final
class RunningWorker:
    """A worker that serves."""

    def __init__(
        self,
        *,
        address: str,
        engine: EngineLoop,
        in_flight: InFlight,
        calls: ResumableCalls,
        server: RpcServer,
        announcement: Announcement,
        hand_over_s: float,
    ) -> None:
        self.address = address
        """host:port as routers reach it."""
        self.engine = engine
        self.in_flight = in_flight
        self.calls = calls
        self._server = server
        self._announcement = announcement
        self._hand_over_s = hand_over_s

    async def drain(self, grace_s: float) -> bool:
        """Takes nothing new and waits for what runs; False when `grace_s` was too short for it.

        What is too long ends with `Unavailable(DRAINING)` a little earlier, so that routers move it to another worker
        while this one is still there to say so.
        """
        margin_s = min(self._hand_over_s, grace_s / 2)
        self.in_flight.drain()
        self._server.set_serving(False)
        await self._announcement.drain()
        log.info("worker.draining", num_running=self.in_flight.num_calls, grace_s=grace_s)
        finished = await self.in_flight.empty(grace_s - margin_s)
        if not finished:
            log.warning("worker.hand_over", num_running=self.in_flight.num_calls)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(margin_s / 2):
                    await self.engine.stop()
            await self.in_flight.empty(margin_s / 2)
        self.in_flight.close()
        return finished


@asynccontextmanager
async def open_worker(parts: WorkerParts, stop: StopRequest) -> AsyncGenerator[RunningWorker, None]:
    """Everything from the engine to the registry; serves while the block runs.

    `parts.runner` is warm and has proved itself. Errors on the way in: `Conflict` (port, id). Leaving the block gives
    everything back; calls that still run then end with `Unavailable(DRAINING)`.
    """
    settings, model, instruments = parts.settings, parts.model, parts.instruments
    in_flight = InFlight()
    async with AsyncExitStack() as stack:
        server = _server(parts)
        stack.push_async_callback(server.stop, _LAST_MESSAGES_S_MAX)
        tokenizers = TokenizerPool(
            parts.tokenizer,
            threads=settings.tokenizer_threads,
            waiting_max=settings.tokenizer_waiting_max,
        )
        stack.push_async_callback(asyncio.to_thread, tokenizers.close)
        stack.push_async_callback(parts.grammars.close)
        engine = EngineLoop(
            parts.runner, settings.engine_config(), parts.clock, observer=_StepMetrics(instruments)
        )
        _show_load(instruments, engine)
        engine.start()
        stack.push_async_callback(engine.stop)
        tasks = make_tasks(
            model=model,
            tokenizers=tokenizers,
            grammars=parts.grammars,
            engine=engine,
            clock=parts.clock,
        )

        calls = await stack.enter_async_context(
            ResumableCalls(_replay_limits(settings), in_flight, parts.clock)
        )
        instruments.resumable_calls.set_function(lambda: calls.num_calls)
        instruments.replay_bytes.set_function(lambda: calls.num_bytes)
        facts = WorkerFacts(
            worker_id=parts.worker_id,
            incarnation=secrets.token_hex(8),
            version=_version(),
            tasks=tuple(tasks),
            model=model,
        )
        tickets = CallTickets(parts.cluster.token)
        desk = TicketDesk(worker_id=parts.worker_id, tickets=tickets, clock=parts.clock)
        self_pick = SelfPick(
            facts=facts,
            limits=parts.limits,
            tickets=tickets,
            in_flight=in_flight,
            clock=parts.clock,
        )
        inference = InferenceService(
            worker_id=parts.worker_id,
            model=model,
            tasks=tasks,
            tokenizers=tokenizers,
            limits=parts.limits,
            cluster=parts.cluster,
            in_flight=in_flight,
            tickets=desk,
            self_pick=self_pick,
            calls=calls,
            resumption=Resumption(
                worker_id=parts.worker_id,
                calls=calls,
                tokens=ResumeTokens(parts.cluster.token),
                linger_s=settings.idempotency_linger_s,
                keep_s=parts.limits.idempotency_s,
            ),
            reporter=CallReporter(
                tracer=parts.tracer,
                instruments=instruments,
                model=model,
                worker_id=parts.worker_id,
                clock=parts.clock,
            ),
            clock=parts.clock,
        )
        control = WorkerService(
            facts=facts,
            load=engine.load,
            prefixes=engine.prefixes,
            probe=lambda deadline: ask(engine, parts.question, deadline=deadline),
            drain=stop.request,
            in_flight=in_flight,
            tickets=desk,
            cluster=parts.cluster,
            push_ms_min=settings.load_push_ms_min,
            clock=parts.clock,
        )
        server.add_service(inference_service.SERVICE_NAME, inference.handlers())
        server.add_service(worker_service.SERVICE_NAME, control.handlers())
        address = self_pick.address = advertised(settings, await server.start())
        server.set_serving(True)
        announcement = await stack.enter_async_context(
            Announcement(parts.registrar, _instance(facts, parts, address))
        )
        # First of all on the way out, also after a failure: nothing new, and no stream that waits for the end.
        stack.callback(in_flight.close)
        yield RunningWorker(
            address=address,
            engine=engine,
            in_flight=in_flight,
            calls=calls,
            server=server,
            announcement=announcement,
            hand_over_s=settings.hand_over_s,
        )


@final
class _StepMetrics:
    """`worker.engine.observer.StepObserver` on the metrics; called on the engine thread."""

    def __init__(self, instruments: WorkerInstruments) -> None:
        self._step_seconds = instruments.step_seconds
        self._drafted_tokens = instruments.drafted_tokens_total
        self._accepted_tokens = instruments.accepted_tokens_total
        self._preemptions = instruments.preemptions_total

    def on_step(self, *, duration_s: float, num_prefill_tokens: int, num_decode_rows: int) -> None:
        del num_prefill_tokens, num_decode_rows
        self._step_seconds.observe(duration_s)

    def on_drafts(self, *, num_drafted: int, num_accepted: int) -> None:
        self._drafted_tokens.inc(num_drafted)
        self._accepted_tokens.inc(num_accepted)

    def on_preemption(self) -> None:
        self._preemptions.inc()


def _show_load(instruments: WorkerInstruments, engine: EngineLoop) -> None:
    """The gauges ask the engine when they are scraped."""
    instruments.num_requests_running.set_function(lambda: engine.load().running)
    instruments.num_requests_waiting.set_function(lambda: engine.load().waiting)
    instruments.kv_cache_usage_ratio.set_function(lambda: engine.load().kv_usage)


def _replay_limits(settings: WorkerSettings) -> ReplayLimits:
    return ReplayLimits(
        calls_max=settings.resumable_calls_max,
        bytes_max=settings.replay_bytes_max,
        bytes_total_max=settings.replay_total_bytes_max,
    )


def _server(parts: WorkerParts) -> RpcServer:
    return RpcServer(
        host=parts.settings.host,
        port=parts.settings.port,
        interceptors=(
            TracingServerInterceptor(parts.tracer),
            CallLogInterceptor(parts.clock),
            ErrorInterceptor(),
            FirstMessageInterceptor(parts.limits.message_s_max),
            *parts.interceptors,
        ),
        message_bytes_max=parts.limits.transport_bytes_max,
    )


def _instance(facts: WorkerFacts, parts: WorkerParts, address: str) -> Instance:
    return Instance(
        id=facts.worker_id,
        incarnation=facts.incarnation,
        address=address,
        model=facts.model.name,
        revision=facts.model.revision,
        tasks=facts.tasks,
        context_length=facts.model.context_length,
        vocab_size=facts.model.vocab_size,
        rows_max=parts.runner.layout.num_slots,
        fingerprint=facts.model.fingerprint,
        version=facts.version,
        tool_format=facts.model.tool_format,
        metrics_address=parts.metrics_address,
    )


def _version() -> str:
    try:
        return importlib.metadata.version("lepton")
    except importlib.metadata.PackageNotFoundError:  # run from a tree that is not installed
        return "0"
