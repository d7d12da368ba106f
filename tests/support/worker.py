"""A worker inside the test process: real gRPC, real engine, a runner of the test's choice.

async with worker_of(FakeRunner()) as worker:
    answer = await worker.ask("abc", stop={"max_tokens": 3})
"""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from common.clock import SystemClock
from common.cluster import ClusterSettings
from common.discovery.api import Instance
from common.discovery.memory import MemoryRegistry
from common.errors import LeptonError
from common.limits import Limits
from common.process import StopRequest
from common.rpc.channel import open_channel
from common.rpc.metadata import FINISHED_KEY
from common.rpc.status import from_rpc_error
from common.telemetry.instruments import WorkerInstruments
from lepton.v1 import inference_pb2
from tests.support.grammars import grammar_compiler
from tests.support.patience import PATIENCE_S
from tests.support.processes import until
from worker.engine.golden import ANY_ANSWER, GoldenQuestion
from worker.engine.ports import ModelRunner
from worker.runtime.grammar.tokens import TokenTable, token_table
from worker.runtime.model import LoadedModel
from worker.serving import RunningWorker, WorkerParts, open_worker
from worker.settings import WorkerSettings
from worker.tasks.api import ChatTurn, ModelFacts, Tool
from worker.tasks.ports import GrammarCompiler, Tokenizer

__all__ = ["GENERATE", "Answer", "ByteTokenizer", "LocalWorker", "worker_of"]

GENERATE = "/lepton.v1.InferenceService/Generate"


class ByteDetokenizer:
    """Ids are bytes; text comes out when its characters are whole."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def is_inside_character(self) -> bool:
        return bool(self._decoder.getstate()[0])

    def push(self, token_id: int) -> str:
        return self._decoder.decode(bytes([token_id]))

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class ByteTokenizer:
    """Each byte of the text is a token."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_chat(
        self,
        messages: Sequence[ChatTurn],
        *,
        add_generation_prompt: bool,
        tools: Sequence[Tool] = (),
    ) -> list[int]:
        del tools
        text = "".join(f"{message.role}:{message.content}\n" for message in messages)
        return self.encode(text + ("assistant:" if add_generation_prompt else ""))

    def new_detokenizer(self, *, keeps_first_space: bool = False) -> ByteDetokenizer:
        return ByteDetokenizer()

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id])

    def printed_bytes(self, token_id: int) -> bytes:
        return self.token_bytes(token_id)


@dataclass(slots=True)
class Answer:
    """One Generate as the client saw it."""

    started: inference_pb2.Started | None = None
    migrated: inference_pb2.Migrated | None = None
    finished: inference_pb2.Finished | None = None
    deltas: list[inference_pb2.Delta] = field(default_factory=list)
    events: list[inference_pb2.Event] = field(default_factory=list)
    num_messages: int = 0
    trailing: Mapping[str, str | bytes] = field(default_factory=dict)
    initial: Mapping[str, str | bytes] = field(default_factory=dict)
    error: LeptonError | None = None
    code: grpc.StatusCode | None = None

    @property
    def seqs(self) -> list[int]:
        return [event.seq for event in self.events]

    def text(self, choice: int = 0) -> str:
        return "".join(delta.text for delta in self.deltas if delta.index == choice)

    def ids(self, choice: int = 0) -> list[int]:
        return [i for delta in self.deltas if delta.index == choice for i in delta.token_ids]

    def end(self, choice: int = 0) -> inference_pb2.ChoiceEnd:
        (end,) = [d.end for d in self.deltas if d.index == choice and d.HasField("end")]
        return end

    def check_whole(self) -> None:
        """Started first, `seq` without gaps, one `Finished` last, repeated in the trailing metadata."""
        assert self.error is None, self.error
        assert self.started is not None
        assert self.finished is not None
        assert self.seqs == list(range(len(self.seqs)))
        assert self.trailing[FINISHED_KEY] == self.finished.SerializeToString()


@dataclass(slots=True)
class LocalWorker:
    """A running worker and a channel to it."""

    running: RunningWorker
    channel: grpc.aio.Channel
    registry: MemoryRegistry
    metrics: CollectorRegistry
    spans: InMemorySpanExporter
    stop: StopRequest

    async def ask(
        self,
        request: inference_pb2.GenerateRequest | bytes | str,
        *,
        timeout_s: float | None = PATIENCE_S,
        metadata: Sequence[tuple[str, str]] = (),
        **fields: Any,
    ) -> Answer:
        """One Generate to its end, whatever that is. A text becomes the prompt, keywords fields of the request."""
        if isinstance(request, str):
            request = inference_pb2.GenerateRequest(text=request, **fields)
        payload = request if isinstance(request, bytes) else request.SerializeToString()
        call = self.call(payload, timeout_s=timeout_s, metadata=metadata)
        answer = Answer()
        try:
            async for raw in call:
                answer.num_messages += 1
                for event in inference_pb2.GenerateResponse.FromString(raw).events:
                    take(answer, event)
            answer.initial = dict(await call.initial_metadata() or ())
            answer.trailing = dict(await call.trailing_metadata() or ())
        except grpc.aio.AioRpcError as error:
            answer.error, answer.code = from_rpc_error(error), error.code()
            answer.initial = dict(error.initial_metadata() or ())
            answer.trailing = dict(error.trailing_metadata() or ())
        return answer

    async def registered(self) -> Mapping[str, Instance]:
        """What the registry holds now."""
        async with aclosing(self.registry.snapshots()) as snapshots:
            return (await anext(snapshots)).instances

    async def idle(self) -> None:
        """Returns when every call has been counted, the engine computes nothing and nothing waits."""

        def is_idle() -> bool:
            load = self.running.engine.load()
            return not (load.running or load.waiting or self.running.in_flight.num_calls)

        await until(is_idle, what="an idle worker")

    async def ended_spans(self, num: int) -> tuple[ReadableSpan, ...]:
        """All spans, once `num` have ended: a client knows the end of its call before the server's span ends."""
        await until(lambda: len(self.spans.get_finished_spans()) >= num, what=f"{num} spans")
        return self.spans.get_finished_spans()

    def call(
        self,
        payload: bytes,
        *,
        timeout_s: float | None = PATIENCE_S,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> Any:
        """A raw Generate call."""
        return self.channel.unary_stream(GENERATE)(
            payload, timeout=timeout_s, metadata=tuple(metadata)
        )


def take(answer: Answer, event: inference_pb2.Event) -> None:
    assert answer.finished is None, "something after the terminal event"
    answer.events.append(event)
    kind = event.WhichOneof("kind")
    if kind == "started":
        assert event.seq == 0
        answer.started = event.started
    elif kind == "migrated":
        assert len(answer.events) == 1, "in the middle of a stream"
        answer.migrated = event.migrated
    elif kind == "delta":
        answer.deltas.append(event.delta)
    else:
        assert kind == "finished"
        answer.finished = event.finished


def table_of(loaded: LoadedModel) -> TokenTable | None:
    """What its grammars are compiled with."""
    info = loaded.info
    return token_table(
        loaded.tokenizer.vocabulary, vocab_size=info.vocab_size, eos_ids=info.eos_ids
    )


@asynccontextmanager
async def worker_of(
    runner: ModelRunner,
    *,
    model: ModelFacts | None = None,
    tokenizer: Tokenizer | None = None,
    grammars: GrammarCompiler | None = None,
    limits: Limits | None = None,
    token: str = "",
    question: GoldenQuestion = ANY_ANSWER,
    worker_id: str = "w1",
    found_in: MemoryRegistry | None = None,
    interceptors: tuple[grpc.aio.ServerInterceptor, ...] = (),
    **settings: Any,
) -> AsyncIterator[LocalWorker]:
    """A worker with everything real but, by default, tokenizer and registry."""
    facts = model or ModelFacts(
        name="fake",
        revision="0123456789abcdef" * 4,
        context_length=runner.layout.capacity,
        vocab_size=256,
        eos_ids=frozenset(),
        fingerprint="fake",
    )
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    metrics, registry, stop = CollectorRegistry(), found_in or MemoryRegistry(), StopRequest()
    limits = limits or Limits()
    parts = WorkerParts(
        worker_id=worker_id,
        settings=WorkerSettings(model_dir=Path(), model_name=facts.name, port=0, **settings),
        limits=limits,
        cluster=ClusterSettings.model_validate({"token": token}),
        model=facts,
        tokenizer=tokenizer or ByteTokenizer(),
        grammars=grammars or grammar_compiler(None),
        runner=runner,
        registrar=registry,
        tracer=provider.get_tracer("test"),
        instruments=WorkerInstruments(metrics),
        metrics_address="",
        clock=SystemClock(),
        question=question,
        interceptors=interceptors,
    )
    # Channels outlive the worker, so that a test sees how calls end.
    async with AsyncExitStack() as channels, open_worker(parts, stop) as running:
        channel = await channels.enter_async_context(
            open_channel(running.address, message_bytes_max=limits.message_bytes_max)
        )
        yield LocalWorker(
            running=running,
            channel=channel,
            registry=registry,
            metrics=metrics,
            spans=spans,
            stop=stop,
        )
    provider.shutdown()
