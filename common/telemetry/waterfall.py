"""The span files of a folder, read back: one trace over all processes, as a tree with bars.

Everything in the files is data: a broken or cut line (a process was killed while it wrote) is skipped and
counted, and no text from a span reaches the terminal unescaped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from common.errors import InvalidRequest, NotFound, Reason
from common.telemetry import names
from common.telemetry.files import read_last_lines, read_lines

__all__ = ["SpanRecord", "TraceSpans", "read_spans", "render", "to_json"]

BAR_SHARE_MIN: Final = 0.02
"""Shortest bar, as a share of the trace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRecord:
    """One span as a file holds it."""

    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits."""
    parent_id: str | None
    """None at the root; may name a span of a process that left no file."""
    name: str
    service: str
    instance: str
    start_unix_ns: int
    end_unix_ns: int
    kind: str = "internal"
    status: str = "unset"
    """unset, ok or error."""
    status_message: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    links: list[dict[str, Any]] = field(default_factory=list)

    @property
    def duration_ms(self) -> float:
        return (self.end_unix_ns - self.start_unix_ns) / 1e6


@final
class TraceSpans(list[SpanRecord]):
    """The spans of one trace in tree order: a parent before its children, siblings by start."""

    def __init__(self, spans: Iterable[SpanRecord], *, num_skipped_lines: int = 0) -> None:
        super().__init__(spans)
        self.num_skipped_lines = num_skipped_lines
        """Lines in the folder that could not be read."""

    @property
    def trace_id(self) -> str:
        return self[0].trace_id if self else ""


def read_spans(
    trace_dir: Path, trace_id_prefix: str | None = None, *, bytes_max: int | None = None
) -> TraceSpans:
    """The spans of one trace: the one that began last, or the one whose id begins with `trace_id_prefix`. With
    `bytes_max` only so much of what was written last is read.

    Raises `NotFound(TRACE_NOT_FOUND)` when there is none, `InvalidRequest(TRACE_AMBIGUOUS)` when several ids begin so.
    """
    prefix = (trace_id_prefix or "").strip().lower()
    begun: dict[str, int] = {}
    traces: dict[str, list[SpanRecord]] = {}
    skipped = 0
    lines = (
        read_lines(trace_dir)
        if bytes_max is None
        else read_last_lines(trace_dir, bytes_max=bytes_max)
    )
    for line in lines:
        if prefix and f'"trace_id":"{prefix}' not in line:
            continue
        span = _parse(line)
        if span is None:
            skipped += 1
        elif span.trace_id.startswith(prefix):
            traces.setdefault(span.trace_id, []).append(span)
            begun[span.trace_id] = min(span.start_unix_ns, begun.get(span.trace_id, 1 << 63))
    if not traces:
        what = f"a trace that begins with {prefix!r}" if prefix else "any trace"
        raise NotFound(f"{trace_dir} does not hold {what}", reason=Reason.TRACE_NOT_FOUND)
    if prefix and len(traces) > 1:
        some = ", ".join(sorted(traces)[:4])
        raise InvalidRequest(
            f"{len(traces)} traces begin with {prefix!r}: {some}; give more digits",
            reason=Reason.TRACE_AMBIGUOUS,
        )
    latest = max(begun, key=lambda trace_id: begun[trace_id])
    ordered = (span for span, _ in _walk(traces[latest]))
    return TraceSpans(ordered, num_skipped_lines=skipped)


def to_json(spans: Sequence[SpanRecord]) -> list[dict[str, Any]]:
    """The spans as JSON data, with depth, offset and duration worked out."""
    began = min((span.start_unix_ns for span in spans), default=0)
    return [
        {
            "trace_id": span.trace_id,
            "span_id": span.span_id,
            "parent_id": span.parent_id,
            "depth": depth,
            "name": span.name,
            "service": span.service,
            "instance": span.instance,
            "kind": span.kind,
            "offset_ms": (span.start_unix_ns - began) / 1e6,
            "duration_ms": span.duration_ms,
            "status": _status_of(span),
            "attributes": span.attributes,
            "events": span.events,
            "links": span.links,
        }
        for span, depth in _walk(spans)
    ]


def render(spans: Sequence[SpanRecord]) -> Table:
    """A table with one line a span: indented name, where it ran, duration, bar on the scale of the trace, status."""
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    table.add_column("span", no_wrap=True, overflow="ellipsis")
    table.add_column("where", no_wrap=True, style="cyan", overflow="ellipsis", max_width=20)
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, ratio=1, min_width=10)
    table.add_column("status", no_wrap=True)
    if not spans:
        return table
    began = min(span.start_unix_ns for span in spans)
    total = max(max(span.end_unix_ns for span in spans) - began, 1)
    for span, depth in _walk(spans):
        failed = span.status == "error"
        table.add_row(
            Text("  " * depth + _short_name(span)),
            Text(_clean(span.instance or span.service)),
            Text(f"{span.duration_ms:.2f}"),
            _bar(span, began, total, "red" if failed else _color_of(span)),
            Text(_clean(_status_of(span)), style="red" if failed else "green"),
        )
    return table


def _walk(spans: Iterable[SpanRecord]) -> Iterator[tuple[SpanRecord, int]]:
    """Spans with their depth, parents first. A span whose parent is not here is a root; so is one in a circle."""
    by_start = sorted(spans, key=lambda span: (span.start_unix_ns, -span.end_unix_ns))
    ids = {span.span_id for span in by_start}
    children: dict[str | None, list[SpanRecord]] = {}
    for span in by_start:
        parent = span.parent_id if span.parent_id in ids else None
        children.setdefault(parent, []).append(span)
    seen: set[int] = set()
    for root in (*children.get(None, ()), *by_start):
        stack = [(root, 0)]
        while stack:
            span, depth = stack.pop()
            if id(span) in seen:
                continue
            seen.add(id(span))
            yield span, depth
            stack.extend((child, depth + 1) for child in reversed(children.get(span.span_id, ())))


def _parse(line: str) -> SpanRecord | None:
    try:
        data = json.loads(line)
        return SpanRecord(
            trace_id=_typed(data["trace_id"], str),
            span_id=_typed(data["span_id"], str),
            parent_id=None if data["parent_id"] is None else _typed(data["parent_id"], str),
            name=_typed(data["name"], str),
            service=_typed(data["service"], str),
            instance=_typed(data["instance"], str),
            start_unix_ns=_typed(data["start_unix_ns"], int),
            end_unix_ns=_typed(data["end_unix_ns"], int),
            kind=_typed(data["kind"], str),
            status=_typed(data["status"], str),
            status_message=_typed(data.get("status_message", ""), str),
            attributes=_typed(data.get("attributes", {}), dict),
            events=_typed(data.get("events", []), list),
            links=_typed(data.get("links", []), list),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not a {kind.__name__}")
    return value


def _status_of(span: SpanRecord) -> str:
    code = span.attributes.get(names.RPC_RESPONSE_STATUS_CODE)
    if isinstance(code, str):
        return code
    return "ERROR" if span.status == "error" else "OK"


def _short_name(span: SpanRecord) -> str:
    """An RPC without its package, and which side of it this is."""
    if names.RPC_METHOD not in span.attributes:
        return _clean(span.name)
    return f"{_clean(span.name.rpartition('.')[2])} ({_clean(span.kind)})"


def _bar(span: SpanRecord, began: int, total: int, color: str) -> Bar:
    """The span on the scale of the trace; the shortest is still to be seen."""
    least = total * BAR_SHARE_MIN
    start = min(span.start_unix_ns - began, total - least)
    end = max(span.end_unix_ns - began, start + least)
    return Bar(total, start, end, color=color)


def _color_of(span: SpanRecord) -> str:
    return {"server": "blue", "client": "magenta"}.get(span.kind, "yellow")


def _clean(text: str) -> str:
    return "".join(c if c.isprintable() else "�" for c in text)[:200]
