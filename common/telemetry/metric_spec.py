"""What a metric is before it is an object; `common.telemetry.instruments` makes those."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = [
    "FINE_SECONDS",
    "FIRST_TOKEN_SECONDS",
    "REQUESTS",
    "REQUEST_SECONDS",
    "TOKEN_SECONDS",
    "MetricSpec",
]

REQUEST_SECONDS: Final = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
"""Buckets of `gen_ai.server.request.duration`."""

TOKEN_SECONDS: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
)  # fmt: skip
"""Buckets of `gen_ai.server.time_per_output_token`, with finer ones below for small models."""

FIRST_TOKEN_SECONDS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
"""Buckets of `gen_ai.server.time_to_first_token`."""

FINE_SECONDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
)  # fmt: skip
"""For what should take milliseconds or less: routing, engine steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """One metric as `/metrics` shows it."""

    name: str
    """Full name; counters end in `_total`, other units are in the name."""
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    """"1" for plain counts."""
    help: str
    labels: tuple[str, ...] = ()
    """Every label has a bounded set of values."""
    buckets: tuple[float, ...] = ()
    """Upper bounds, histograms only."""


REQUESTS: Final = MetricSpec(
    name="lepton_requests_total",
    kind="counter",
    unit="1",
    labels=("model", "code"),
    help='Calls that ended, by model ("unknown" for one that is not served) and gRPC code.',
)
