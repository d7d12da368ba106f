"""Span files: whole lines, bounded, and never in the way."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, set_span_in_context

from common.telemetry.files import FileSpanExporter, prune_span_files

TRACER = TracerProvider(shutdown_on_exit=False).get_tracer("test")


def _span(name: str = "lepton.queue", size: int = 0) -> ReadableSpan:
    span = TRACER.start_span(name, attributes={"filler": "x" * size})
    span.end()
    assert isinstance(span, ReadableSpan)
    return span


def _exporter(folder: Path, bytes_max: int = 1 << 20, instance_id: str = "w1") -> FileSpanExporter:
    return FileSpanExporter(
        folder, service="lepton-worker", instance_id=instance_id, file_bytes_max=bytes_max
    )


def test_a_line_holds_the_whole_span(tmp_path: Path) -> None:
    parent = TRACER.start_span("root")
    other = TRACER.start_span("other")
    span = TRACER.start_span(
        "lepton.prefill",
        context=set_span_in_context(parent),
        kind=SpanKind.SERVER,
        attributes={"lepton.choice": 1, "list": ["a", "b"]},
        links=[Link(other.get_span_context())],
        start_time=1_000,
    )
    span.add_event("first", {"n": 1}, timestamp=1_500)
    span.set_status(Status(StatusCode.ERROR, "broke"))
    span.end(end_time=2_000)
    assert isinstance(span, ReadableSpan)
    exporter = _exporter(tmp_path / "made" / "here")
    assert exporter.export([span]) is SpanExportResult.SUCCESS
    context, above, beside = (s.get_span_context() for s in (span, parent, other))
    assert json.loads(exporter.path.read_text("utf-8")) == {
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "parent_id": f"{above.span_id:016x}",
        "name": "lepton.prefill",
        "service": "lepton-worker",
        "instance": "w1",
        "start_unix_ns": 1_000,
        "end_unix_ns": 2_000,
        "kind": "server",
        "status": "error",
        "status_message": "broke",
        "attributes": {"lepton.choice": 1, "list": ["a", "b"]},
        "events": [{"name": "first", "unix_ns": 1_500, "attributes": {"n": 1}}],
        "links": [{"trace_id": f"{beside.trace_id:032x}", "span_id": f"{beside.span_id:016x}"}],
    }


def test_a_process_keeps_at_most_two_files_of_the_given_size(tmp_path: Path) -> None:
    exporter = _exporter(tmp_path, bytes_max=8_000)
    for _ in range(40):
        assert exporter.export([_span(size=1_000)]) is SpanExportResult.SUCCESS
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {exporter.path.name, f"{exporter.path.name}.1"}
    assert all(size <= 8_000 for size in sizes.values())
    assert all(json.loads(line) for p in tmp_path.iterdir() for line in p.read_text().splitlines())


def test_an_instance_id_cannot_leave_the_folder(tmp_path: Path) -> None:
    exporter = _exporter(tmp_path / "in", instance_id="../../x/" + "y" * 500)
    exporter.export([_span()])
    assert exporter.path.parent == tmp_path / "in"
    assert exporter.path.exists()


def test_a_disk_that_refuses_costs_spans_and_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    exporter = _exporter(blocked)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert exporter.export([_span()]) is SpanExportResult.FAILURE
    assert [record.message for record in caplog.records] == ["telemetry.file_failed"]
    blocked.unlink()
    assert exporter.export([_span()]) is SpanExportResult.SUCCESS


def test_a_line_cut_by_a_full_disk_does_not_spoil_the_next(tmp_path: Path) -> None:
    exporter = _exporter(tmp_path)
    exporter.export([_span("before")])
    with exporter.path.open("a") as file:
        file.write('{"trace_id":"cut')
    exporter._failing = True  # what the failed export left behind
    exporter.export([_span("after")])
    assert '\n{"trace_id":"cut\n{' in exporter.path.read_text()


def test_old_files_go_until_the_folder_is_small_enough(tmp_path: Path) -> None:
    for age in range(5):
        path = tmp_path / f"spans-lepton-worker-w{age}-1.jsonl"
        path.write_text("x" * 1_000)
        os.utime(path, (1_000 - age, 1_000 - age))
    (tmp_path / "other.txt").write_text("y" * 9_000)
    prune_span_files(tmp_path, bytes_max=2_500)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "other.txt",
        "spans-lepton-worker-w0-1.jsonl",
        "spans-lepton-worker-w1-1.jsonl",
    ]
    prune_span_files(tmp_path / "missing", bytes_max=0)
