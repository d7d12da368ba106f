"""Metrics of a router process. docs/telemetry.md is generated from this file."""

from __future__ import annotations

from typing import Final

from common.telemetry.metric_spec import (
    FINE_SECONDS,
    FIRST_TOKEN_SECONDS,
    REQUEST_SECONDS,
    REQUESTS,
    MetricSpec,
)

__all__ = ["ROUTER_METRICS"]

ROUTER_METRICS: Final = (
    REQUESTS,
    MetricSpec(
        name="lepton_requests_in_flight",
        kind="gauge",
        unit="1",
        help="Calls that the router is relaying, or that clients stream from the workers that it has picked.",
    ),
    MetricSpec(
        name="lepton_direct_calls",
        kind="gauge",
        unit="1",
        help="Of these, the ones that clients stream from workers themselves.",
    ),
    MetricSpec(
        name="lepton_time_to_first_message_seconds",
        kind="histogram",
        unit="s",
        buckets=FIRST_TOKEN_SECONDS,
        help="From the request to the first message of the worker.",
    ),
    MetricSpec(
        name="lepton_route_seconds",
        kind="histogram",
        unit="s",
        buckets=FINE_SECONDS,
        help="From the request to the chosen worker, waiting included.",
    ),
    MetricSpec(
        name="lepton_affinity_hits_total",
        kind="counter",
        unit="1",
        help="Choices of a worker that is believed to have the beginning of the prompt in its cache.",
    ),
    MetricSpec(
        name="lepton_routed_prompt_bytes_total",
        kind="counter",
        unit="By",
        help="Bytes of prompts that were hashed for affinity, per choice of a worker.",
    ),
    MetricSpec(
        name="lepton_routed_known_bytes_total",
        kind="counter",
        unit="By",
        help="Of these, bytes that the chosen worker is believed to have in its cache.",
    ),
    MetricSpec(
        name="lepton_retries_total",
        kind="counter",
        unit="1",
        labels=("reason",),
        help="Calls sent to another worker, by the reason of the first one's error.",
    ),
    MetricSpec(
        name="lepton_waiting_bytes",
        kind="gauge",
        unit="By",
        help="Bytes that wait for clients that read more slowly than their worker writes.",
    ),
    MetricSpec(
        name="lepton_slow_readers_total",
        kind="counter",
        unit="1",
        help="Clients cut off because they took nothing for too long.",
    ),
    MetricSpec(
        name="lepton_migrations_total",
        kind="counter",
        unit="1",
        labels=("reason",),
        help="Streams that went on with another worker, by why they left the one before. Requests, retries and "
        "migrations together are the calls that workers got.",
    ),
    MetricSpec(
        name="lepton_migration_gap_seconds",
        kind="histogram",
        unit="s",
        buckets=FIRST_TOKEN_SECONDS,
        help="From the loss of a stream's worker to the next message.",
    ),
    MetricSpec(
        name="lepton_stream_faults_total",
        kind="counter",
        unit="1",
        labels=("fault",),
        help="Streams in which a worker broke the rules: events repeated, missing (gap), late, or unreadable, or none "
        "any more although the worker had nothing to do (silent).",
    ),
    MetricSpec(
        name="lepton_suspects",
        kind="gauge",
        unit="1",
        help="Calls under suspicion of having ended a worker; they are tried one at a time on each worker.",
    ),
    MetricSpec(
        name="lepton_convictions_total",
        kind="counter",
        unit="1",
        help="Calls that ended workers and are refused for a while (POISON_REQUEST).",
    ),
    MetricSpec(
        name="lepton_endpoints",
        kind="gauge",
        unit="1",
        labels=("state",),
        help="Workers by state, as the router sees them.",
    ),
    MetricSpec(
        name="lepton_ejections_total",
        kind="counter",
        unit="1",
        labels=("cause",),
        help="Workers set aside: failures in a row, success_rate, slow, or a failed probe.",
    ),
    MetricSpec(
        name="lepton_ejections_ignored",
        kind="gauge",
        unit="1",
        help="Workers that would be set aside if not too many of their model were (panic mode).",
    ),
    MetricSpec(
        name="lepton_models_frozen",
        kind="gauge",
        unit="1",
        labels=("trouble",),
        help="Models of which most workers are silent, or missing from the registry, at once, and are left alone.",
    ),
    MetricSpec(
        name="lepton_registry_bad_values",
        kind="gauge",
        unit="1",
        help="Entries of the registry that cannot be read and are skipped.",
    ),
    MetricSpec(
        name="lepton_snapshot_age_seconds",
        kind="gauge",
        unit="s",
        help="Time since the registry last confirmed the list of workers.",
    ),
    MetricSpec(
        name="lepton_snapshot_stale",
        kind="gauge",
        unit="1",
        help="1 while the registry cannot be reached and the last list is used, else 0.",
    ),
    MetricSpec(
        name="lepton_queue_waiting",
        kind="gauge",
        unit="1",
        labels=("band",),
        help='Calls that wait in the router for a free row of a worker, by priority: "high", "normal", "low".',
    ),
    MetricSpec(
        name="lepton_queue_wait_seconds",
        kind="histogram",
        unit="s",
        labels=("band",),
        buckets=(0.001, *REQUEST_SECONDS),
        help="How long calls waited there before they went on; 0 for those that found a free row.",
    ),
    MetricSpec(
        name="lepton_queue_predicted_seconds",
        kind="histogram",
        unit="s",
        buckets=(0.001, *REQUEST_SECONDS),
        help="How long calls that had to wait were expected to.",
    ),
    MetricSpec(
        name="lepton_refusals_total",
        kind="counter",
        unit="1",
        labels=("reason",),
        help="Calls that were not admitted, by reason (docs/errors.md).",
    ),
)
