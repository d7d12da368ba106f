"""Where spans go, and what happens when they cannot."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from common.errors import Conflict, Reason
from common.telemetry.settings import TelemetrySettings
from common.telemetry.setup import OTLP_ENDPOINT, ReportingExporter, setup_telemetry
from common.telemetry.waterfall import read_spans
from tests.support.manual_clock import ManualClock
from tests.support.otlp import OtlpSink


def test_without_a_place_to_go_spans_cost_nothing_and_still_have_ids() -> None:
    telemetry = setup_telemetry(
        TelemetrySettings(), service="lepton-worker", instance_id="w", env={}
    )
    span = telemetry.tracer.start_span("x")
    assert span.get_span_context().is_valid
    span.end()
    telemetry.shutdown()
    telemetry.shutdown()


def test_no_global_provider_is_set() -> None:
    before = trace.get_tracer_provider()
    setup_telemetry(TelemetrySettings(), service="s", instance_id="w", env={}).shutdown()
    assert trace.get_tracer_provider() is before


def test_local_files_are_there_soon_after_the_span(tmp_path: Path) -> None:
    telemetry = setup_telemetry(
        TelemetrySettings(trace_dir=tmp_path), service="lepton-worker", instance_id="w1", env={}
    )
    with telemetry.tracer.start_as_current_span("outer"):
        telemetry.tracer.start_span("inner").end()
    deadline = time.monotonic() + 5
    while not list(tmp_path.glob("*.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.01)  # noqa: TID251 - another thread writes
    spans = read_spans(tmp_path)
    assert [span.name for span in spans] == ["outer", "inner"]
    assert {(span.service, span.instance) for span in spans} == {("lepton-worker", "w1")}
    telemetry.shutdown()


def test_shutdown_writes_what_is_left(tmp_path: Path) -> None:
    telemetry = setup_telemetry(
        TelemetrySettings(trace_dir=tmp_path, flush_ms=60_000), service="s", instance_id="w", env={}
    )
    telemetry.tracer.start_span("last").end()
    telemetry.shutdown()
    assert [span.name for span in read_spans(tmp_path)] == ["last"]


def test_a_ratio_of_zero_records_nothing_of_our_own(tmp_path: Path) -> None:
    telemetry = setup_telemetry(
        TelemetrySettings(trace_dir=tmp_path, sample_ratio=0), service="s", instance_id="w", env={}
    )
    span = telemetry.tracer.start_span("x")
    assert not span.is_recording()
    span.end()
    telemetry.shutdown()
    assert list(tmp_path.iterdir()) == []


async def test_otlp_wins_over_files_and_carries_the_resource(tmp_path: Path) -> None:
    async with OtlpSink() as sink:
        telemetry = setup_telemetry(
            TelemetrySettings(trace_dir=tmp_path),
            service="lepton-router",
            instance_id="r1",
            env={OTLP_ENDPOINT: f"http://{sink.address}"},
        )
        with telemetry.tracer.start_as_current_span("outer", attributes={"n": 1, "l": ["a"]}):
            telemetry.tracer.start_span("inner").end()
        spans = await sink.wait_for(lambda spans: len(spans) == 2)
        telemetry.shutdown()
    inner, outer = sorted(spans, key=lambda span: span.name)
    assert inner.parent_id == outer.span_id
    assert outer.parent_id is None
    assert outer.attributes == {"n": 1, "l": ["a"]}
    assert (outer.service, outer.instance) == ("lepton-router", "r1")
    assert outer.resource["service.version"]
    assert _names(tmp_path) == []


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


QUEUE_FULL = "Queue full, dropping Span."


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_dead_collector_costs_no_call_and_a_bounded_end(caplog: pytest.LogCaptureFixture) -> None:
    settings = TelemetrySettings(
        flush_ms=10, queue_spans_max=64, export_s_max=30, shutdown_s_max=0.3
    )
    telemetry = setup_telemetry(
        settings,
        service="s",
        instance_id="w",
        env={OTLP_ENDPOINT: f"http://127.0.0.1:{_closed_port()}"},
    )
    with caplog.at_level(logging.INFO):
        for _ in range(2_000):
            telemetry.tracer.start_span("x").end()
        began = time.monotonic()
        telemetry.shutdown()
    assert time.monotonic() - began < 10  # it would back off for half a minute
    noise = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert noise.count(QUEUE_FULL) == 1
    assert len(noise) <= 3
    assert set(noise) <= {QUEUE_FULL, "telemetry.export_failed", "telemetry.shutdown_cut"}


def test_a_collector_that_never_answers_costs_a_bounded_end() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        telemetry = setup_telemetry(
            TelemetrySettings(flush_ms=10, export_s_max=30, shutdown_s_max=0.3),
            service="s",
            instance_id="w",
            env={OTLP_ENDPOINT: f"http://127.0.0.1:{silent.getsockname()[1]}"},
        )
        for _ in range(100):
            telemetry.tracer.start_span("x").end()
        began = time.monotonic()
        telemetry.shutdown()
        assert time.monotonic() - began < 10


def test_an_exporter_that_cannot_be_set_up_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "rar")
    with pytest.raises(Conflict, match="collector:4317") as refused:
        setup_telemetry(
            TelemetrySettings(),
            service="s",
            instance_id="w",
            env={OTLP_ENDPOINT: "http://collector:4317"},
        )
    assert refused.value.reason is Reason.SETTING_INVALID


class Flaky(SpanExporter):
    def __init__(self) -> None:
        self.works = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if not self.works:
            raise RuntimeError("no")
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None: ...


def test_failures_are_told_once_a_minute_and_so_is_their_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, inner = ManualClock(), Flaky()
    exporter = ReportingExporter(inner, endpoint="collector:4317", clock=clock)
    with caplog.at_level(logging.INFO):
        for _ in range(10):
            assert exporter.export([]) is SpanExportResult.FAILURE
        clock.advance(61)
        exporter.export([])
        inner.works = True
        exporter.export([])
        exporter.export([])
    assert [record.getMessage() for record in caplog.records] == [
        "telemetry.export_failed",
        "telemetry.export_failed",
        "telemetry.export_recovered",
    ]
