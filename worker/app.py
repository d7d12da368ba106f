"""The composition root: the only file of the worker that names concrete classes; `AsyncExitStack` owns lifetimes.

    load, warm up, golden answer ──> engine ──> gRPC ──> registry ──> process.ready
    stop ──> draining (registry, load stream, health) ──> running calls end ──> registry, engine, gRPC, telemetry

`worker.serving` has the middle of it, from the loaded model to the entry in the registry.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final, final

import grpc
from prometheus_client import CollectorRegistry

from common.address import join_address
from common.clock import Clock, SystemClock
from common.cluster import ClusterSettings
from common.collector import settle_collector
from common.discovery.open import open_registrar
from common.discovery.settings import DiscoverySettings
from common.errors import Internal, Reason
from common.limits import Limits
from common.logs import get_logger, setup_logs
from common.process import ProcessSpec, StopRequest
from common.rpc.bind import check_bind
from common.rpc.server import RpcServer
from common.telemetry.instruments import WorkerInstruments
from common.telemetry.metrics import MetricsServer
from common.telemetry.settings import TelemetrySettings
from common.telemetry.setup import setup_telemetry
from worker.addresses import advertised
from worker.engine.golden import ANY_ANSWER, GoldenQuestion
from worker.engine.ports import ModelRunner
from worker.oracle.open import open_oracle
from worker.oracle.settings import OracleSettings
from worker.runtime.grammar.compiler import GrammarCompiler as Grammars
from worker.runtime.grammar.limits import GrammarLimits
from worker.runtime.grammar.tokens import token_table
from worker.runtime.model import LoadedModel, load_model
from worker.runtime.providers.registry import provider_named
from worker.runtime.providers.spec import DeviceOptions
from worker.runtime.tool_format import tool_format_of
from worker.serving import RunningWorker, WorkerParts, open_worker
from worker.settings import WorkerSettings
from worker.tasks.api import ModelFacts
from worker.tasks.ports import GrammarCompiler, Tokenizer

__all__ = ["PROCESS", "facts_of", "serve", "until_stopped"]

SERVICE: Final = "lepton-worker"

log = get_logger(__name__)


async def serve(sections: Mapping[str, Any], stop: StopRequest) -> None:
    """Runs a worker process from its settings to its end."""
    settings: WorkerSettings = sections["worker"]
    cluster: ClusterSettings = sections["cluster"]
    telemetry_settings: TelemetrySettings = sections["telemetry"]
    clock = SystemClock()
    worker_id = settings.id or f"worker-{secrets.token_hex(4)}"
    setup_logs(telemetry_settings, service=SERVICE, instance_id=worker_id)
    for host in (settings.host, settings.metrics_host):
        check_bind(host, insecure=cluster.insecure)
    advertised(settings, settings.port)
    await _rehearse_bind(settings)
    async with AsyncExitStack() as stack:
        telemetry = setup_telemetry(
            telemetry_settings, service=SERVICE, instance_id=worker_id, env=os.environ, clock=clock
        )
        stack.push_async_callback(asyncio.to_thread, telemetry.shutdown)
        registry = CollectorRegistry()
        ready = _Ready()
        metrics = MetricsServer(settings.metrics_host, settings.metrics_port, registry, ready)
        metrics_port = metrics.start()
        stack.push_async_callback(asyncio.to_thread, metrics.stop)
        served = await asyncio.to_thread(_open_model, sections, clock)
        if stop.requested.is_set():
            return
        metrics_address = join_address(settings.metrics_host, metrics_port)
        running = await stack.enter_async_context(
            open_worker(
                WorkerParts(
                    worker_id=worker_id,
                    settings=settings,
                    limits=sections["limits"],
                    cluster=cluster,
                    model=served.model,
                    tokenizer=served.tokenizer,
                    grammars=served.grammars,
                    runner=served.runner,
                    interceptors=served.interceptors,
                    registrar=open_registrar(sections["discovery"], clock),
                    tracer=telemetry.tracer,
                    instruments=WorkerInstruments(registry),
                    metrics_address=metrics_address,
                    clock=clock,
                    question=served.question,
                ),
                stop,
            )
        )
        ready.worker = running
        settle_collector()
        log.info(
            "process.ready",
            address=running.address,
            metrics_address=metrics_address,
            worker_id=worker_id,
            model=settings.name,
        )
        await until_stopped(running, settings, stop, clock)
        grace_s = settings.drain_s_max if stop.grace_s is None else stop.grace_s
        await running.drain(grace_s)


PROCESS: Final = ProcessSpec(
    program=SERVICE,
    about="Serves one revision of one model on one device: lepton.v1.InferenceService and WorkerService over gRPC.",
    own="worker",
    sections={
        "worker": WorkerSettings,
        "discovery": DiscoverySettings,
        "telemetry": TelemetrySettings,
        "limits": Limits,
        "cluster": ClusterSettings,
        "oracle": OracleSettings,
    },
    serve=serve,
)


@final
class _Ready:
    """What /readyz says; read by the threads of the metrics server."""

    def __init__(self) -> None:
        self.worker: RunningWorker | None = None

    def __call__(self) -> bool:
        worker = self.worker
        return worker is not None and worker.engine.healthy and not worker.in_flight.draining


async def _rehearse_bind(settings: WorkerSettings) -> None:
    """A port that is taken is told now, not after a large model was loaded. Raises as `RpcServer.start` does."""
    rehearsal = RpcServer(host=settings.host, port=settings.port, message_bytes_max=1024)
    await rehearsal.start()
    await rehearsal.stop(0)


async def until_stopped(
    worker: RunningWorker, settings: WorkerSettings, stop: StopRequest, clock: Clock
) -> None:
    """Returns when the end is asked for. Raises `Internal(ENGINE_FAILED)` when the engine does not work any more."""

    async def watch() -> None:
        while worker.engine.healthy:
            await clock.sleep(settings.engine_check_s)
        raise Internal("the engine does not work any more", reason=Reason.ENGINE_FAILED)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        await stop.requested.wait()
        watching.cancel()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Served:
    """The parts of a worker that depend on what is served."""

    model: ModelFacts
    tokenizer: Tokenizer
    grammars: GrammarCompiler
    runner: ModelRunner
    question: GoldenQuestion = ANY_ANSWER
    interceptors: tuple[grpc.aio.ServerInterceptor, ...] = ()


def _open_model(sections: Mapping[str, Any], clock: Clock) -> _Served:
    settings: WorkerSettings = sections["worker"]
    if settings.engine == "oracle":
        log.warning("worker.oracle", hint="a test engine without a model: its answers mean nothing")
        oracle = open_oracle(settings, sections["oracle"])
        return _Served(
            model=oracle.model,
            tokenizer=oracle.tokenizer,
            grammars=oracle.grammars,
            runner=oracle.runner,
            interceptors=oracle.interceptors,
        )
    loaded = _load(settings)
    return _Served(
        model=facts_of(loaded, settings.tool_format),
        tokenizer=loaded.tokenizer,
        grammars=_grammars(loaded, settings, clock),
        runner=loaded.runner,
        question=loaded.question,
    )


def _load(settings: WorkerSettings) -> LoadedModel:
    return load_model(
        settings.model_dir,
        name=settings.name,
        threads=settings.threads,
        rows_max=settings.rows_max,
        context_max=settings.context_max,
        prefix_cache_mib=settings.prefix_cache_mib,
        drafted_max=settings.lookup_streams_max * settings.lookup_tokens_max,
        kv_memory_mib=settings.kv_memory_mib,
        kernels=settings.kernels,
        kv_precision=settings.kv_precision,
        prefill_int8=settings.prefill_int8,
        mode=settings.mode,
        provider=provider_named(
            settings.provider,
            DeviceOptions(
                device_id=settings.device_id,
                memory_mib=settings.device_memory_mib,
                engine_cache_dir=settings.engine_cache_dir,
            ),
        ),
        chunk_tokens_max=settings.chunk_tokens_max,
        progress=lambda event, fields: log.info(event, **fields),
    )


def facts_of(loaded: LoadedModel, tool_format: str = "auto") -> ModelFacts:
    """What requests to a model are checked against; `tool_format` as in the settings of a worker."""
    info = loaded.info
    return ModelFacts(
        name=info.name,
        revision=info.revision,
        context_length=info.context_length,
        vocab_size=info.vocab_size,
        eos_ids=frozenset(info.eos_ids),
        fingerprint=info.fingerprint,
        tool_format=tool_format_of(loaded.chat_template, tool_format),
    )


def _grammars(loaded: LoadedModel, settings: WorkerSettings, clock: Clock) -> Grammars:
    info = loaded.info
    return Grammars(
        token_table(
            loaded.tokenizer.vocabulary, vocab_size=info.vocab_size, eos_ids=frozenset(info.eos_ids)
        ),
        GrammarLimits(
            compile_s_max=settings.grammar_compile_s_max,
            memory_mib_max=settings.grammar_memory_mib_max,
            symbols_max=settings.grammar_symbols_max,
            states_max=settings.grammar_states_max,
            mask_fuel_max=settings.grammar_mask_fuel_max,
            mask_items_max=settings.grammar_mask_items_max,
        ),
        processes=settings.grammar_processes,
        waiting_max=settings.grammar_waiting_max,
        verdicts_max=settings.grammar_verdicts_max,
        clock=clock,
    )
