"""The trace context that goes with a call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from lepton_client.steps import Pairs

__all__ = ["trace_metadata"]

_KEYS: Final = ("traceparent", "tracestate")


def trace_metadata(hook: Callable[[], str | None] | None) -> Pairs:
    """From the hook; without one from OpenTelemetry, if the program has imported it; else nothing."""
    if hook is not None:
        traceparent = hook()
        return (("traceparent", traceparent),) if traceparent else ()
    if "opentelemetry" not in sys.modules:
        return ()
    try:
        from opentelemetry import propagate
    except ImportError:  # the name belongs to something else
        return ()
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return tuple((key, carrier[key]) for key in _KEYS if key in carrier)
