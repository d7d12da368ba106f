"""Metrics of the HTTP door, in a router or in `lepton-gateway`."""

from __future__ import annotations

from typing import Final

from common.telemetry.metric_spec import MetricSpec

__all__ = ["GATEWAY_METRICS"]

GATEWAY_METRICS: Final = (
    MetricSpec(
        name="lepton_http_requests_total",
        kind="counter",
        unit="1",
        labels=("route", "status"),
        help='HTTP requests and WebSockets that ended, by route ("none" for an unknown one) and status.',
    ),
    MetricSpec(
        name="lepton_http_connections",
        kind="gauge",
        unit="1",
        help="Connections that are open at the HTTP door.",
    ),
    MetricSpec(
        name="lepton_http_streams",
        kind="gauge",
        unit="1",
        help="Answers that are being streamed as server-sent events.",
    ),
    MetricSpec(
        name="lepton_websockets",
        kind="gauge",
        unit="1",
        help="WebSockets that are open.",
    ),
)
