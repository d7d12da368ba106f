"""Spans that nobody will read: ids to give out and to pass on, and nothing behind them.

A process without an exporter needs trace ids all the same: its callers and its log lines name them, and the next
process may record. What the SDK would keep of such a span until it is thrown away costs a tenth of a relayed call.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, final

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    get_current_span,
    use_span,
)

__all__ = ["UnrecordedTracer"]

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_UNSAMPLED: Final = TraceFlags(TraceFlags.DEFAULT)


@final
class UnrecordedTracer(Tracer):
    """Goes on with the caller's trace as it was sampled; `sampler` decides for traces that begin here."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._ids = RandomIdGenerator()

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Any = None,
        links: Any = None,
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: FBT001, FBT002 - as in `Tracer`
        set_status_on_exception: bool = True,  # noqa: FBT001, FBT002
    ) -> Span:
        """See `Tracer.start_span`."""
        parent = get_current_span(context).get_span_context()
        if parent.is_valid:
            trace_id, flags, state = parent.trace_id, parent.trace_flags, parent.trace_state
        else:
            trace_id, state = self._ids.generate_trace_id(), None
            decision = self._sampler.should_sample(None, trace_id, name).decision
            flags = _SAMPLED if decision is Decision.RECORD_AND_SAMPLE else _UNSAMPLED
        return NonRecordingSpan(
            SpanContext(
                trace_id,
                self._ids.generate_span_id(),
                is_remote=False,
                trace_flags=flags,
                trace_state=state,
            )
        )

    @contextmanager
    def start_as_current_span(  # type: ignore[override]  # theirs is a decorator, too
        self, name: str, context: Context | None = None, *args: Any, **kwargs: Any
    ) -> Iterator[Span]:
        """See `Tracer.start_as_current_span`."""
        span = self.start_span(name, context)
        with use_span(span, record_exception=False, set_status_on_exception=False):
            yield span
