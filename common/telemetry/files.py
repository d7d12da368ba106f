"""Spans as lines of JSON in a folder, for machines without a collector: one file per process, `lepton trace` reads all.

A line holds trace_id, span_id, parent_id (null at the root), name, service, instance, start_unix_ns, end_unix_ns,
kind, status (unset, ok, error), status_message, attributes, events [{name, unix_ns, attributes}] and links
[{trace_id, span_id}].
"""

from __future__ import annotations

import errno
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any, Final, final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import format_span_id, format_trace_id

from common.logs import get_logger

__all__ = [
    "SPAN_FILE_GLOB",
    "FileSpanExporter",
    "prune_span_files",
    "read_last_lines",
    "read_lines",
    "span_line",
]

SPAN_FILE_GLOB: Final = "spans-*.jsonl*"
"""What belongs to us in the folder; a `.1` is the older part of a file."""

_FILE_SHARE: Final = 8
"""Of what may be read of a folder, one file gets at most this part: no process hides the others."""

log = get_logger(__name__)


@final
class FileSpanExporter(SpanExporter):
    """Appends spans to `spans-<service>-<instance>-<pid>.jsonl` in `folder`, which it makes.

    A file that reaches `file_bytes_max` becomes `….jsonl.1`, replacing the older one, so one process keeps at most
    twice that. A disk that cannot be written costs spans, never a call: it is logged once and tried again.
    """

    def __init__(
        self, folder: Path, *, service: str, instance_id: str, file_bytes_max: int
    ) -> None:
        self._folder = folder
        self._service = service
        self._instance_id = instance_id
        self._bytes_max = file_bytes_max
        safe_id = re.sub(r"[^A-Za-z0-9_.-]", "_", instance_id)[:64]
        self._path = folder / f"spans-{service}-{safe_id}-{os.getpid()}.jsonl"
        self._lock = threading.Lock()
        self._failing = False

    @property
    def path(self) -> Path:
        """The file that is written now."""
        return self._path

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        lines = "".join(
            span_line(span, service=self._service, instance_id=self._instance_id) for span in spans
        )
        try:
            with self._lock:
                # After a failure a part of a line may stand in the file: it must not spoil the next one.
                self._append(b"\n" * self._failing + lines.encode("utf-8"))
        except OSError as error:
            if not self._failing:
                log.warning("telemetry.file_failed", path=str(self._path), error=error.strerror)
            self._failing = True
            return SpanExportResult.FAILURE
        self._failing = False
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing is held open between exports."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True

    def _append(self, data: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # One write per batch to a file in append mode: a reader sees whole lines, save for a crash in between.
        with self._path.open("ab", buffering=0) as file:
            if file.tell() and file.tell() + len(data) > self._bytes_max:
                file.close()
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                with self._path.open("ab", buffering=0) as fresh:
                    _write_whole(fresh, data)
                return
            _write_whole(file, data)


def _write_whole(file: FileIO, data: bytes) -> None:
    if file.write(data) != len(data):
        raise OSError(errno.ENOSPC, "the disk took only a part of it")


def prune_span_files(folder: Path, *, bytes_max: int) -> None:
    """Removes the span files that were written longest ago until the folder holds at most `bytes_max`."""
    files = []
    for path in folder.glob(SPAN_FILE_GLOB):
        try:
            stat = path.stat()
        except OSError:  # another process prunes too
            continue
        files.append((stat.st_mtime, stat.st_size, path))
    excess = sum(size for _, size, _ in files) - bytes_max
    for _, size, path in sorted(files):
        if excess <= 0:
            break
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("telemetry.prune_failed", path=str(path), error=error.strerror)
            return
        excess -= size


def read_lines(folder: Path) -> Iterator[str]:
    """Every line of every span file, file by file; what cannot be read is passed over."""
    for path in sorted(folder.glob(SPAN_FILE_GLOB)):
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                yield from (line for line in file if line.strip())
        except OSError:  # rotated or removed while we read
            continue


def read_last_lines(folder: Path, *, bytes_max: int) -> Iterator[str]:
    """The last lines of the span files that were written last, at most `bytes_max` in all; for whoever must not read
    for long.
    """
    left = bytes_max
    for path in sorted(folder.glob(SPAN_FILE_GLOB), key=_written_at, reverse=True):
        if left <= 0:
            return
        try:
            with path.open("rb") as file:
                begin = max(0, file.seek(0, os.SEEK_END) - min(left, bytes_max // _FILE_SHARE))
                file.seek(begin)
                data = file.read(min(left, bytes_max // _FILE_SHARE))
        except OSError:  # rotated or removed while we read
            continue
        left -= len(data)
        if begin:  # in the middle of a line
            data = data[data.find(b"\n") + 1 :]
        yield from (line for line in data.decode("utf-8", "replace").split("\n") if line.strip())


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def span_line(span: ReadableSpan, *, service: str, instance_id: str) -> str:
    """One span as one line, newline included."""
    context = span.get_span_context()
    record = {
        "trace_id": format_trace_id(context.trace_id) if context else "",
        "span_id": format_span_id(context.span_id) if context else "",
        "parent_id": format_span_id(span.parent.span_id) if span.parent else None,
        "name": span.name,
        "service": service,
        "instance": instance_id,
        "start_unix_ns": span.start_time,
        "end_unix_ns": span.end_time,
        "kind": span.kind.name.lower(),
        "status": span.status.status_code.name.lower(),
        "status_message": span.status.description or "",
        "attributes": _plain(span.attributes),
        "events": [
            {"name": event.name, "unix_ns": event.timestamp, "attributes": _plain(event.attributes)}
            for event in span.events
        ],
        "links": [
            {
                "trace_id": format_trace_id(link.context.trace_id),
                "span_id": format_span_id(link.context.span_id),
            }
            for link in span.links
        ],
    }
    return json.dumps(record, separators=(",", ":"), default=str) + "\n"


def _plain(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return dict(attributes) if attributes else {}
