"""The spans of one call, once they are all there."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Final

from common.clock import Clock
from common.errors import NotFound
from common.telemetry.files import read_lines
from common.telemetry.waterfall import TraceSpans, read_spans

__all__ = ["last_generation", "wait_trace"]

_POLL_S: Final = 0.05
_SERVICES: Final = 2


async def wait_trace(
    folder: Path, trace_id: str, clock: Clock, *, within_s: float = 3.0
) -> TraceSpans | None:
    """The spans of a call that went through a router, when both processes have written theirs.

    Processes write in batches, a moment after a span ends. What is there after `within_s` is returned as it is;
    None when there is nothing.
    """
    spans: TraceSpans | None = None
    seen = -1
    try:
        async with asyncio.timeout(within_s):
            while spans is None or not _whole(spans) or len(spans) != seen:
                seen = len(spans) if spans else -1
                await clock.sleep(_POLL_S)
                try:
                    spans = read_spans(folder, trace_id)
                except NotFound:
                    spans = None
    except TimeoutError:
        pass
    return spans


def _whole(spans: TraceSpans) -> bool:
    """Every parent is there and more than one process has spoken."""
    ids = {span.span_id for span in spans}
    orphans = sum(1 for span in spans if span.parent_id and span.parent_id not in ids)
    return orphans == 0 and len({span.service for span in spans}) >= _SERVICES


def last_generation(folder: Path) -> str | None:
    """The trace id of the Generate that began last; None when the folder holds none.

    Other calls (a list of models, tokenizing) are traced too, and are not what people look for.
    """
    latest, found = -1, None
    for line in read_lines(folder):
        if '"name":"lepton.v1.InferenceService/Generate"' not in line:
            continue
        try:
            span = json.loads(line)
            began, trace_id = int(span["start_unix_ns"]), str(span["trace_id"])
        except (ValueError, TypeError, KeyError):
            continue  # the process was killed while it wrote
        if began > latest:
            latest, found = began, trace_id
    return found
