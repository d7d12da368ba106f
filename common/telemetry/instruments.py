"""The metric objects of a process, built once from `names` and handed to whoever counts.

An attribute is called like its metric without the prefix `lepton_`: `lepton_step_seconds` is `step_seconds`.
A child with labels costs a dictionary look-up per call; keep the child where a hot path needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar, final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

from common.telemetry.fleet_metrics import FLEET_METRICS
from common.telemetry.gateway_metrics import GATEWAY_METRICS
from common.telemetry.metric_spec import MetricSpec
from common.telemetry.router_metrics import ROUTER_METRICS
from common.telemetry.worker_metrics import WORKER_METRICS

__all__ = [
    "UNKNOWN_MODEL",
    "FleetInstruments",
    "GatewayInstruments",
    "ModelLabels",
    "RouterInstruments",
    "WorkerInstruments",
]

UNKNOWN_MODEL: Final = "unknown"
"""Label of every model that is not served."""

_Metric = Counter | Gauge | Histogram
_MetricT = TypeVar("_MetricT", Counter, Gauge, Histogram)


@final
class ModelLabels:
    """Keeps the label `model` to names that are served: callers choose names, and each would cost memory forever."""

    def __init__(self) -> None:
        self._served: frozenset[str] = frozenset()

    def set_served(self, names: Iterable[str]) -> None:
        """Replaces the names that may become labels."""
        self._served = frozenset(names)

    def of(self, name: str) -> str:
        """`name` when it is served, else "unknown"."""
        return name if name in self._served else UNKNOWN_MODEL


@final
class RouterInstruments:
    """What a router counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        made = _build(ROUTER_METRICS, registry)
        self.models = ModelLabels()
        """`requests_total.labels(model=instruments.models.of(name), code="OK")`."""
        self.requests_total = _take(made, "lepton_requests_total", Counter)
        self.requests_in_flight = _take(made, "lepton_requests_in_flight", Gauge)
        self.direct_calls = _take(made, "lepton_direct_calls", Gauge)
        self.time_to_first_message_seconds = _take(
            made, "lepton_time_to_first_message_seconds", Histogram
        )
        self.route_seconds = _take(made, "lepton_route_seconds", Histogram)
        self.affinity_hits_total = _take(made, "lepton_affinity_hits_total", Counter)
        self.routed_prompt_bytes_total = _take(made, "lepton_routed_prompt_bytes_total", Counter)
        self.routed_known_bytes_total = _take(made, "lepton_routed_known_bytes_total", Counter)
        self.retries_total = _take(made, "lepton_retries_total", Counter)
        self.waiting_bytes = _take(made, "lepton_waiting_bytes", Gauge)
        self.slow_readers_total = _take(made, "lepton_slow_readers_total", Counter)
        self.migrations_total = _take(made, "lepton_migrations_total", Counter)
        self.migration_gap_seconds = _take(made, "lepton_migration_gap_seconds", Histogram)
        self.stream_faults_total = _take(made, "lepton_stream_faults_total", Counter)
        self.suspects = _take(made, "lepton_suspects", Gauge)
        self.convictions_total = _take(made, "lepton_convictions_total", Counter)
        self.endpoints = _take(made, "lepton_endpoints", Gauge)
        self.ejections_total = _take(made, "lepton_ejections_total", Counter)
        self.ejections_ignored = _take(made, "lepton_ejections_ignored", Gauge)
        self.models_frozen = _take(made, "lepton_models_frozen", Gauge)
        self.registry_bad_values = _take(made, "lepton_registry_bad_values", Gauge)
        self.snapshot_age_seconds = _take(made, "lepton_snapshot_age_seconds", Gauge)
        self.snapshot_stale = _take(made, "lepton_snapshot_stale", Gauge)
        self.queue_waiting = _take(made, "lepton_queue_waiting", Gauge)
        self.queue_wait_seconds = _take(made, "lepton_queue_wait_seconds", Histogram)
        self.queue_predicted_seconds = _take(made, "lepton_queue_predicted_seconds", Histogram)
        self.refusals_total = _take(made, "lepton_refusals_total", Counter)
        _none_left(made)


@final
class GatewayInstruments:
    """What the HTTP door counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        made = _build(GATEWAY_METRICS, registry)
        self.http_requests_total = _take(made, "lepton_http_requests_total", Counter)
        self.http_connections = _take(made, "lepton_http_connections", Gauge)
        self.http_streams = _take(made, "lepton_http_streams", Gauge)
        self.websockets = _take(made, "lepton_websockets", Gauge)
        _none_left(made)


@final
class FleetInstruments:
    """What the parent of several router processes counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        made = _build(FLEET_METRICS, registry)
        self.router_processes = _take(made, "lepton_router_processes", Gauge)
        self.router_process_restarts_total = _take(
            made, "lepton_router_process_restarts_total", Counter
        )
        _none_left(made)


@final
class WorkerInstruments:
    """What a worker counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        made = _build(WORKER_METRICS, registry)
        self.models = ModelLabels()
        """`requests_total.labels(model=instruments.models.of(name), code="OK")`."""
        self.requests_total = _take(made, "lepton_requests_total", Counter)
        self.prompt_tokens_total = _take(made, "lepton_prompt_tokens_total", Counter)
        self.cached_tokens_total = _take(made, "lepton_cached_tokens_total", Counter)
        self.generation_tokens_total = _take(made, "lepton_generation_tokens_total", Counter)
        self.continuations_total = _take(made, "lepton_continuations_total", Counter)
        self.replayed_tokens_total = _take(made, "lepton_replayed_tokens_total", Counter)
        self.replay_mismatches_total = _take(made, "lepton_replay_mismatches_total", Counter)
        self.time_to_first_token_seconds = _take(
            made, "lepton_time_to_first_token_seconds", Histogram
        )
        self.inter_token_seconds = _take(made, "lepton_inter_token_seconds", Histogram)
        self.step_seconds = _take(made, "lepton_step_seconds", Histogram)
        self.drafted_tokens_total = _take(made, "lepton_drafted_tokens_total", Counter)
        self.accepted_tokens_total = _take(made, "lepton_accepted_tokens_total", Counter)
        self.preemptions_total = _take(made, "lepton_preemptions_total", Counter)
        self.queue_seconds = _take(made, "lepton_queue_seconds", Histogram)
        self.grammar_seconds = _take(made, "lepton_grammar_seconds", Histogram)
        self.num_requests_running = _take(made, "lepton_num_requests_running", Gauge)
        self.num_requests_waiting = _take(made, "lepton_num_requests_waiting", Gauge)
        self.kv_cache_usage_ratio = _take(made, "lepton_kv_cache_usage_ratio", Gauge)
        self.resumable_calls = _take(made, "lepton_resumable_calls", Gauge)
        self.replay_bytes = _take(made, "lepton_replay_bytes", Gauge)
        self.joins_total = _take(made, "lepton_joins_total", Counter)
        self.errors_total = _take(made, "lepton_errors_total", Counter)
        _none_left(made)


def _build(specs: Sequence[MetricSpec], registry: CollectorRegistry) -> dict[str, _Metric]:
    # A `…_created` series beside each counter and histogram doubles what is scraped and tells nobody anything.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    made: dict[str, _Metric] = {}
    for spec in specs:
        if spec.kind == "histogram":
            made[spec.name] = Histogram(
                spec.name, spec.help, spec.labels, buckets=spec.buckets, registry=registry
            )
        else:
            cls = Counter if spec.kind == "counter" else Gauge
            made[spec.name] = cls(spec.name, spec.help, spec.labels, registry=registry)
    return made


def _take(made: dict[str, _Metric], name: str, kind: type[_MetricT]) -> _MetricT:
    metric = made.pop(name)
    if not isinstance(metric, kind):
        raise TypeError(f"{name} is a {type(metric).__name__}, not a {kind.__name__}")
    return metric


def _none_left(made: dict[str, _Metric]) -> None:
    if made:
        raise TypeError(f"metrics without an attribute: {', '.join(made)}")
