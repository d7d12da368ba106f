"""Section `telemetry`: what a process tells about itself, and how much that may cost."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from common.settings import Section

__all__ = ["TelemetrySettings"]


class TelemetrySettings(Section):
    """Logs and traces of one process. An OTLP endpoint comes from `OTEL_EXPORTER_OTLP_ENDPOINT`."""

    trace_dir: Path | None = None
    """Folder for local span files (read by `lepton trace`). Used only while no OTLP endpoint is set. None: no files."""
    log_format: Literal["auto", "json", "pretty"] = "auto"
    """`json` is one object a line; `pretty` is for eyes; `auto` is pretty on a terminal and JSON elsewhere."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level of Lepton's own events. Libraries are heard from warning on."""
    sample_ratio: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of traces that are recorded, decided where a trace begins; callers' decisions are followed. 0 to 1."""
    queue_spans_max: int = Field(default=4096, ge=1)
    """Finished spans that wait for export at most; further ones push out the oldest. Spans."""
    batch_spans_max: int = Field(default=512, ge=1)
    """Most spans in one export; cut to `queue_spans_max`. Spans."""
    flush_ms: int = Field(default=200, ge=10, le=60_000)
    """Longest that a finished span waits for its export. Milliseconds."""
    export_s_max: float = Field(default=5.0, gt=0)
    """Longest that one OTLP export may take, retries included. Seconds."""
    shutdown_s_max: float = Field(default=3.0, gt=0)
    """Longest that the last export may hold up the end of the process. Seconds."""
    trace_file_bytes_max: int = Field(default=16 << 20, ge=4096)
    """A span file that reaches this is put aside once (`.1`, replacing the older one) and begun anew. Bytes."""
    trace_dir_bytes_max: int = Field(default=256 << 20, ge=4096)
    """At start span files are removed until the folder is below this; written longest ago goes first. Bytes."""
