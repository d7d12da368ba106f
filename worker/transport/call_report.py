"""What one Generate leaves behind: attributes and child spans of its RPC span, and what is counted.

    lepton.v1.InferenceService/Generate   [ tokenize ][ queue ][ prefill ][ decode                ]

The children are made when the call is over, with the times that engine and task noted on the way: the hot path
pays nothing for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, final

import grpc
from opentelemetry import trace

from common.clock import Clock
from common.errors import LeptonError, Reason
from common.rpc.interceptors import annotate, code_of_cancelled
from common.rpc.status import codes_of
from common.telemetry import names
from common.telemetry.instruments import WorkerInstruments
from worker.engine.sequence import FinishReason
from worker.tasks.api import (
    Begun,
    ChatPrompt,
    Done,
    GenerateRequest,
    ModelFacts,
    Output,
    Resumed,
    Timeline,
)
from worker.transport.call_context import CallFacts, ServicerContext

__all__ = ["CallCount", "CallReport", "CallReporter"]

_FINISH_NAMES: Final = {FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}


@final
class CallReport:
    """One call while it runs."""

    def __init__(
        self, span: trace.Span, timeline: Timeline, instruments: WorkerInstruments
    ) -> None:
        self._span = span
        self._timeline = timeline
        self._instruments = instruments

    def take(self, outputs: Sequence[Output]) -> None:
        """Counts what is about to be sent."""
        for gap_s in self._timeline.token_gaps_s:
            self._instruments.inter_token_seconds.observe(gap_s)
        self._timeline.token_gaps_s.clear()
        for output in outputs:
            match output:
                case Begun():
                    self._begun(output)
                case Resumed():
                    self._resumed(output)
                case Done():
                    self._done(output)
                case _:
                    self._instruments.generation_tokens_total.inc(len(output.token_ids))

    def _begun(self, begun: Begun) -> None:
        timeline = self._timeline
        self._instruments.prompt_tokens_total.inc(begun.num_prompt_tokens)
        self._instruments.cached_tokens_total.inc(begun.num_cached_tokens)
        self._waited()
        if timeline.first_token_at is not None:
            first_s = timeline.first_token_at - timeline.arrived_at
            self._instruments.time_to_first_token_seconds.observe(first_s)
            self._span.set_attribute(names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, first_s)
        self._span.set_attribute(names.GEN_AI_USAGE_INPUT_TOKENS, begun.num_prompt_tokens)

    def _resumed(self, resumed: Resumed) -> None:
        """Prompt and first token count where the stream began."""
        self._instruments.continuations_total.inc()
        self._instruments.replayed_tokens_total.inc(resumed.num_replayed_tokens)
        self._waited()
        annotate(replayed_tokens=resumed.num_replayed_tokens)
        self._span.set_attribute(names.LEPTON_REPLAYED_TOKENS, resumed.num_replayed_tokens)

    def _waited(self) -> None:
        timeline = self._timeline
        if timeline.submitted_at is not None and timeline.scheduled_at is not None:
            self._instruments.queue_seconds.observe(timeline.scheduled_at - timeline.submitted_at)

    def _done(self, done: Done) -> None:
        annotate(prompt_tokens=done.num_prompt_tokens, completion_tokens=done.num_completion_tokens)
        self._span.set_attributes(
            {
                names.GEN_AI_RESPONSE_FINISH_REASONS: [_FINISH_NAMES[e.reason] for e in done.ends],
                names.GEN_AI_USAGE_OUTPUT_TOKENS: done.num_completion_tokens,
                names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: done.num_cached_tokens,
            }
        )


@dataclass(slots=True, kw_only=True)
class CallCount:
    """How a call is counted."""

    model: str
    """Name that was asked for, as far as it is known."""


@final
class CallReporter:
    """Makes a report per call. The span of the call is the current one: the tracing interceptor has begun it."""

    def __init__(
        self,
        *,
        tracer: trace.Tracer,
        instruments: WorkerInstruments,
        model: ModelFacts,
        worker_id: str,
        clock: Clock,
    ) -> None:
        self._tracer = tracer
        self._instruments = instruments
        self._model = model
        self._worker_id = worker_id
        self._clock = clock
        instruments.models.set_served([model.name])

    @contextmanager
    def counted(self, context: ServicerContext) -> Iterator[CallCount]:
        """Counts a call under the code with which it ends and, unless that is OK, the reason."""
        code, reason = grpc.StatusCode.OK, None
        count = CallCount(model=self._model.name)
        try:
            yield count
        except LeptonError as error:
            code, reason = codes_of(error).grpc, error.reason
            raise
        except (asyncio.CancelledError, GeneratorExit, grpc.aio.BaseError):
            # The last of them: gRPC found out that the client is gone before it cancelled us.
            code = code_of_cancelled(context)
            # The same two that the engine would have raised, had it been quicker than gRPC.
            late = code is grpc.StatusCode.DEADLINE_EXCEEDED
            reason = Reason.DEADLINE_EXCEEDED if late else Reason.CLIENT_GONE
            raise
        except BaseException:
            code, reason = grpc.StatusCode.INTERNAL, Reason.INTERNAL
            raise
        finally:
            if reason is not None:
                self._instruments.errors_total.labels(reason=reason.value).inc()
            label = self._instruments.models.of(count.model)
            self._instruments.requests_total.labels(model=label, code=code.name).inc()

    @contextmanager
    def call(
        self, request: GenerateRequest, facts: CallFacts, timeline: Timeline
    ) -> Iterator[CallReport]:
        """Covers a call from the parsed request to whatever its end is."""
        span = trace.get_current_span()
        self._describe(span, request, facts)
        if request.continuation is not None:
            annotate(
                migration=request.continuation.attempt,
                migrated_from=request.continuation.from_worker_id,
            )
        try:
            yield CallReport(span, timeline, self._instruments)
        finally:
            self._note_grammar(span, timeline)
            self._note_replay(span, request, timeline)
            if span.is_recording():
                self._add_children(span, timeline)

    def _describe(self, span: trace.Span, request: GenerateRequest, facts: CallFacts) -> None:
        if not span.is_recording():
            return
        sampling = request.sampling
        span.set_attributes(
            {
                names.GEN_AI_OPERATION_NAME: (
                    "chat" if isinstance(request.prompt, ChatPrompt) else "text_completion"
                ),
                names.GEN_AI_PROVIDER_NAME: "lepton",
                names.GEN_AI_REQUEST_MODEL: self._model.name,
                names.GEN_AI_REQUEST_TEMPERATURE: sampling.temperature,
                names.GEN_AI_REQUEST_TOP_P: sampling.top_p,
                names.GEN_AI_REQUEST_TOP_K: sampling.top_k,
                names.GEN_AI_REQUEST_FREQUENCY_PENALTY: sampling.frequency_penalty,
                names.GEN_AI_REQUEST_PRESENCE_PENALTY: sampling.presence_penalty,
                # As text where it does not fit: attributes are 64-bit integers with a sign.
                names.GEN_AI_REQUEST_SEED: (
                    sampling.seed if sampling.seed < 1 << 63 else str(sampling.seed)
                ),
                names.GEN_AI_REQUEST_CHOICE_COUNT: request.n,
                names.GEN_AI_REQUEST_STREAM: True,
                names.GEN_AI_RESPONSE_ID: request.request_id,
                names.GEN_AI_RESPONSE_MODEL: self._model.name,
                names.LEPTON_REQUEST_ID: request.request_id,
                names.LEPTON_WORKER_ID: self._worker_id,
                names.LEPTON_REVISION: self._model.revision,
            }
        )
        if request.continuation is not None:
            span.set_attributes(
                {
                    names.LEPTON_MIGRATION: request.continuation.attempt,
                    names.LEPTON_MIGRATED_FROM: request.continuation.from_worker_id,
                }
            )
        if request.constraint is not None:
            span.set_attribute(names.LEPTON_CONSTRAINT, request.constraint.kind.value)
        if facts.router_id:
            span.set_attribute(names.LEPTON_ROUTER_ID, facts.router_id)
        if request.max_tokens is not None:
            span.set_attribute(names.GEN_AI_REQUEST_MAX_TOKENS, request.max_tokens)

    def _note_grammar(self, span: trace.Span, timeline: Timeline) -> None:
        if timeline.grammar_s is None:
            return
        known = timeline.grammar_was_known
        self._instruments.grammar_seconds.labels(known=str(known).lower()).observe(
            timeline.grammar_s
        )
        span.set_attributes(
            {names.LEPTON_GRAMMAR_S: timeline.grammar_s, names.LEPTON_GRAMMAR_KNOWN: known}
        )

    def _note_replay(self, span: trace.Span, request: GenerateRequest, timeline: Timeline) -> None:
        if request.continuation is None:
            return
        num_mismatches = timeline.num_replay_mismatches
        self._instruments.replay_mismatches_total.inc(num_mismatches)
        span.set_attribute(names.LEPTON_REPLAY_MISMATCHES, num_mismatches)
        if num_mismatches:
            annotate(replay_mismatches=num_mismatches)

    def _add_children(self, parent: trace.Span, timeline: Timeline) -> None:
        """A phase that was cut off ends now; a phase that never began has no span."""
        now = self._clock.now()
        wall_of_zero = self._clock.wall() - now
        context = trace.set_span_in_context(parent)
        for name, start, end in (
            (names.TOKENIZE_SPAN, timeline.arrived_at, timeline.tokenized_at),
            (names.QUEUE_SPAN, timeline.submitted_at, timeline.scheduled_at),
            (names.PREFILL_SPAN, timeline.scheduled_at, timeline.first_token_at),
            (names.DECODE_SPAN, timeline.first_token_at, timeline.last_token_at),
        ):
            if start is None:
                continue
            child = self._tracer.start_span(
                name, context=context, start_time=_ns(wall_of_zero + start)
            )
            child.end(_ns(wall_of_zero + (now if end is None else end)))


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
