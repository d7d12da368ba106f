"""One trace out of the span files of this machine, within bounds: the process that reads also relays tokens."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, Final, final

from common.errors import InvalidRequest, NotFound, Reason
from common.telemetry.waterfall import read_spans, to_json
from gateway.settings import GatewaySettings

__all__ = ["TraceReader"]

_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")


@final
class TraceReader:
    """Reads for one caller at a time, on a thread."""

    def __init__(self, folder: Path | None, settings: GatewaySettings) -> None:
        self._folder = folder
        self._bytes_max = settings.trace_read_bytes_max
        self._spans_max = settings.trace_spans_max
        self._one_at_a_time = asyncio.Lock()

    async def read(self, trace_id: str) -> dict[str, Any]:
        """`trace_id`, `duration_ms`, `spans` as of `lepton trace --json`, and `num_left_out` beyond the bound.

        Raises `InvalidRequest(FIELD_MALFORMED)`, `NotFound(TRACE_NOT_FOUND)`. Cancellation: safe.
        """
        if not _TRACE_ID.fullmatch(trace_id):
            raise InvalidRequest(
                "a trace id is 32 digits of 0-9 a-f, as in the header lepton-trace-id",
                reason=Reason.FIELD_MALFORMED,
                field="trace_id",
            )
        if self._folder is None:
            raise NotFound(
                "this process keeps no spans: they go to a collector, or setting telemetry.trace_dir is not set",
                reason=Reason.TRACE_NOT_FOUND,
            )
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._read, self._folder, trace_id)

    def _read(self, folder: Path, trace_id: str) -> dict[str, Any]:
        try:
            spans = read_spans(folder, trace_id, bytes_max=self._bytes_max)
        except NotFound:
            raise NotFound(  # whose message names the folder, which is not for everybody
                "there are no spans of this trace here, or none yet: processes write them a moment after a call, "
                "and only the last ones are looked through",
                reason=Reason.TRACE_NOT_FOUND,
            ) from None
        shown = to_json(spans[: self._spans_max])
        return {
            "trace_id": trace_id,
            "duration_ms": max(span["offset_ms"] + span["duration_ms"] for span in shown),
            "spans": shown,
            "num_left_out": len(spans) - len(shown),
        }
