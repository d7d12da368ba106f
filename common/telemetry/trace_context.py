"""The trace context of a caller, from the two headers of W3C (https://www.w3.org/TR/trace-context/), and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import Span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

__all__ = ["KEYS", "STATE_CHARS_MAX", "context_from", "metadata_of"]

KEYS: Final = ("traceparent", "tracestate")

STATE_CHARS_MAX: Final = 512
"""Longest `tracestate` that goes on, as long as the standard asks for at least. It travels in the metadata of every
further hop, and gRPC refuses calls with more than 8 KiB of them: a longer one would break the call that it is about."""

_PROPAGATOR: Final = TraceContextTextMapPropagator()


def context_from(pairs: Iterable[tuple[str, str | bytes]]) -> Context:
    """What headers or metadata say; whatever is malformed or too long is as if it were not there."""
    carrier = {key: value for key, value in pairs if key in KEYS and isinstance(value, str)}
    if len(carrier.get("tracestate", "")) > STATE_CHARS_MAX:
        del carrier["tracestate"]
    return _PROPAGATOR.extract(carrier)


def metadata_of(span: Span) -> dict[str, str]:
    """What tells the next hop that `span` is its parent."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, context=set_span_in_context(span))
    return carrier
