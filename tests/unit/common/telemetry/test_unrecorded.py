"""Spans that nobody records still carry the ids of their trace."""

from __future__ import annotations

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from common.telemetry.settings import TelemetrySettings
from common.telemetry.setup import setup_telemetry
from common.telemetry.unrecorded import UnrecordedTracer


def test_a_new_trace_is_sampled_as_the_sampler_says() -> None:
    for sampler, flag in ((ALWAYS_ON, 1), (ALWAYS_OFF, 0)):
        context = UnrecordedTracer(sampler).start_span("x").get_span_context()
        assert context.is_valid
        assert context.trace_flags == flag


def test_a_callers_trace_goes_on_as_it_was_sampled() -> None:
    for flag in (TraceFlags.SAMPLED, TraceFlags.DEFAULT):
        caller = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(flag))
        within = set_span_in_context(NonRecordingSpan(caller))
        context = UnrecordedTracer(ALWAYS_OFF).start_span("x", within).get_span_context()
        assert (context.trace_id, context.trace_flags) == (7, flag)
        assert context.span_id != 8


def test_a_current_span_is_current_in_its_block_and_the_parent_of_what_follows() -> None:
    tracer = UnrecordedTracer(ALWAYS_ON)
    with tracer.start_as_current_span("outer", record_exception=False) as outer:
        assert get_current_span() is outer
        inner = tracer.start_span("inner").get_span_context()
        assert inner.trace_id == outer.get_span_context().trace_id
    assert get_current_span() is INVALID_SPAN


def test_the_next_process_hears_of_it() -> None:
    span = UnrecordedTracer(ALWAYS_ON).start_span("x")
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, context=set_span_in_context(span))
    ids = span.get_span_context()
    assert carrier["traceparent"] == f"00-{ids.trace_id:032x}-{ids.span_id:016x}-01"


def test_a_process_records_only_what_it_can_export() -> None:
    def tracer_of(env: dict[str, str]) -> object:
        telemetry = setup_telemetry(
            TelemetrySettings(), service="lepton-router", instance_id="r", env=env
        )
        telemetry.shutdown()
        return telemetry.tracer

    assert isinstance(tracer_of({}), UnrecordedTracer)
    exporting = tracer_of({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
    assert type(exporting) is type(TracerProvider().get_tracer("x"))
