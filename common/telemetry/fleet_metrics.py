"""Metrics of the parent of several router processes."""

from __future__ import annotations

from typing import Final

from common.telemetry.metric_spec import MetricSpec

__all__ = ["FLEET_METRICS"]

FLEET_METRICS: Final = (
    MetricSpec(
        name="lepton_router_processes",
        kind="gauge",
        unit="1",
        help="Router processes behind this port that serve (`router.processes` above 1).",
    ),
    MetricSpec(
        name="lepton_router_process_restarts_total",
        kind="counter",
        unit="1",
        labels=("process",),
        help="Router processes that ended by themselves and were started again.",
    ),
)
"""Beside them stand the metrics of every process, each with a label `process`."""
