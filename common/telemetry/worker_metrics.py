"""Metrics of a worker process. docs/telemetry.md is generated from this file."""

from __future__ import annotations

from typing import Final

from common.telemetry.metric_spec import (
    FINE_SECONDS,
    FIRST_TOKEN_SECONDS,
    REQUEST_SECONDS,
    REQUESTS,
    TOKEN_SECONDS,
    MetricSpec,
)

__all__ = ["WORKER_METRICS"]

WORKER_METRICS: Final = (
    REQUESTS,
    MetricSpec(
        name="lepton_prompt_tokens_total",
        kind="counter",
        unit="tokens",
        help="Prompt tokens of requests that got a first token.",
    ),
    MetricSpec(
        name="lepton_cached_tokens_total",
        kind="counter",
        unit="tokens",
        help="Of these prompt tokens, how many came from the prefix cache.",
    ),
    MetricSpec(
        name="lepton_generation_tokens_total",
        kind="counter",
        unit="tokens",
        help="Tokens sent to callers.",
    ),
    MetricSpec(
        name="lepton_continuations_total",
        kind="counter",
        unit="1",
        help="Streams that another worker began and this one went on with.",
    ),
    MetricSpec(
        name="lepton_replayed_tokens_total",
        kind="counter",
        unit="tokens",
        help="Tokens of their completions that were computed again.",
    ),
    MetricSpec(
        name="lepton_replay_mismatches_total",
        kind="counter",
        unit="tokens",
        help="Of these, how many this worker would have drawn otherwise: 0 between workers of one engine fingerprint "
        "in mode exact. Only ONNX Runtime's operators draw again.",
    ),
    MetricSpec(
        name="lepton_time_to_first_token_seconds",
        kind="histogram",
        unit="s",
        buckets=FIRST_TOKEN_SECONDS,
        help="From arrival at the worker to the first token.",
    ),
    MetricSpec(
        name="lepton_inter_token_seconds",
        kind="histogram",
        unit="s",
        buckets=(0.001, 0.0025, 0.005, *TOKEN_SECONDS),
        help="Between two tokens of one choice.",
    ),
    MetricSpec(
        name="lepton_step_seconds",
        kind="histogram",
        unit="s",
        buckets=FINE_SECONDS,
        help="One step of the engine: model runs and sampling.",
    ),
    MetricSpec(
        name="lepton_drafted_tokens_total",
        kind="counter",
        unit="tokens",
        help="Tokens that were looked up in prompt and answer, proposed, and verified beside decoding.",
    ),
    MetricSpec(
        name="lepton_accepted_tokens_total",
        kind="counter",
        unit="tokens",
        help="Of these, how many were what the model said: steps that were saved.",
    ),
    MetricSpec(
        name="lepton_preemptions_total",
        kind="counter",
        unit="1",
        help="Sequences that gave up their row for one of a higher priority, to go on later.",
    ),
    MetricSpec(
        name="lepton_queue_seconds",
        kind="histogram",
        unit="s",
        buckets=REQUEST_SECONDS,
        help="From arrival at the engine to the first model run.",
    ),
    MetricSpec(
        name="lepton_grammar_seconds",
        kind="histogram",
        unit="s",
        labels=("known",),
        buckets=(*FINE_SECONDS, 2.5, 5.0),
        help="Per constrained request, from the text of the constraint to its compiled form or its refusal, waiting "
        'included; `known` is "true" when it had been tried out before.',
    ),
    MetricSpec(
        name="lepton_num_requests_running",
        kind="gauge",
        unit="1",
        help="Sequences in the running batch.",
    ),
    MetricSpec(
        name="lepton_num_requests_waiting",
        kind="gauge",
        unit="1",
        help="Sequences that wait for a row.",
    ),
    MetricSpec(
        name="lepton_kv_cache_usage_ratio",
        kind="gauge",
        unit="1",
        help="Share of the KV cache in use, 0 to 1.",
    ),
    MetricSpec(
        name="lepton_resumable_calls",
        kind="gauge",
        unit="1",
        help="Calls that may outlive their connection, ended ones that are still kept included.",
    ),
    MetricSpec(
        name="lepton_replay_bytes", kind="gauge", unit="bytes", help="Memory for their last events."
    ),
    MetricSpec(
        name="lepton_joins_total",
        kind="counter",
        unit="1",
        labels=("by",),
        help='Connections that went on with a call that was there: `by` is "token" (resumed) or "key" (repeated).',
    ),
    MetricSpec(
        name="lepton_errors_total",
        kind="counter",
        unit="1",
        labels=("reason",),
        help="Calls that ended in an error, by reason (docs/errors.md).",
    ),
)
