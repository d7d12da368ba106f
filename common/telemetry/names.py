"""Every name of a span, attribute or metric. docs/telemetry.md is generated from this file.

Attributes follow the OpenTelemetry conventions for RPC (release candidate of 1.44) and for generative AI (development);
`lepton.*` are our own. Metric objects are built from `ROUTER_METRICS` and `WORKER_METRICS` by
`common.telemetry.instruments`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = [
    "ATTRIBUTES",
    "ROUTER_METRICS",
    "SPANS",
    "UNTRACED_METHODS",
    "UNTRACED_SERVICES",
    "WORKER_METRICS",
    "MetricSpec",
]

# ---- spans ------------------------------------------------------------------------------------------------

ROUTE_SPAN: Final = "lepton.route"
QUEUE_SPAN: Final = "lepton.queue"
TOKENIZE_SPAN: Final = "lepton.tokenize"
PREFILL_SPAN: Final = "lepton.prefill"
DECODE_SPAN: Final = "lepton.decode"

SPANS: Final[dict[str, str]] = {
    "<package>.<Service>/<Method>": "One RPC. SERVER in the process that answers, CLIENT in the one that asks.",
    ROUTE_SPAN: "Router: from the parsed request to the chosen worker; one per attempt.",
    TOKENIZE_SPAN: "Worker: chat template and tokenizer.",
    QUEUE_SPAN: "Worker: from the engine's queue to the first model run of the request.",
    PREFILL_SPAN: "Worker: from the first model run to the first token.",
    DECODE_SPAN: "Worker: from the first token to the last.",
}
"""Span name → what it covers."""

UNTRACED_SERVICES: Final = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
    "grpc.reflection.v1.ServerReflection",
)
"""Probes and tools: neither traced nor logged."""

UNTRACED_METHODS: Final = ("/lepton.v1.WorkerService/WatchLoad",)
"""Streams as long as a process: a span would end with it. Logged at debug level."""

# ---- attributes -------------------------------------------------------------------------------------------

RPC_SYSTEM_NAME: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_RESPONSE_STATUS_CODE: Final = "rpc.response.status_code"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
CLIENT_ADDRESS: Final = "client.address"
CLIENT_PORT: Final = "client.port"

GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
GEN_AI_REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
GEN_AI_REQUEST_TOP_P: Final = "gen_ai.request.top_p"
GEN_AI_REQUEST_TOP_K: Final = "gen_ai.request.top_k"
GEN_AI_REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
GEN_AI_REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
GEN_AI_REQUEST_SEED: Final = "gen_ai.request.seed"
GEN_AI_REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
GEN_AI_REQUEST_STREAM: Final = "gen_ai.request.stream"
GEN_AI_RESPONSE_ID: Final = "gen_ai.response.id"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
GEN_AI_USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"

LEPTON_REQUEST_ID: Final = "lepton.request_id"
LEPTON_WORKER_ID: Final = "lepton.worker_id"
LEPTON_ROUTER_ID: Final = "lepton.router_id"
LEPTON_REVISION: Final = "lepton.revision"
LEPTON_REASON: Final = "lepton.reason"
LEPTON_ATTEMPT: Final = "lepton.attempt"
LEPTON_CANDIDATES: Final = "lepton.candidates"
LEPTON_CHOICE: Final = "lepton.choice"
LEPTON_CONSTRAINT: Final = "lepton.constraint"
LEPTON_GRAMMAR_S: Final = "lepton.grammar_s"
LEPTON_GRAMMAR_KNOWN: Final = "lepton.grammar_known"
LEPTON_MIGRATION: Final = "lepton.migration"
LEPTON_MIGRATED_FROM: Final = "lepton.migrated_from"
LEPTON_REPLAYED_TOKENS: Final = "lepton.replayed_tokens"
LEPTON_REPLAY_MISMATCHES: Final = "lepton.replay_mismatches"
LEPTON_WAITED_S: Final = "lepton.waited_s"
LEPTON_SNAPSHOT_AGE_S: Final = "lepton.snapshot_age_s"
LEPTON_SNAPSHOT_STALE: Final = "lepton.snapshot_stale"

ATTRIBUTES: Final[dict[str, str]] = {
    RPC_SYSTEM_NAME: 'Always "grpc".',
    RPC_METHOD: "`package.Service/Method`.",
    RPC_RESPONSE_STATUS_CODE: 'gRPC code by name, for example "OK" or "CANCELLED".',
    ERROR_TYPE: "gRPC code by name, on calls that failed.",
    SERVER_ADDRESS: "Host of the server, where known.",
    SERVER_PORT: "Port of the server, where known.",
    CLIENT_ADDRESS: "Address of the peer.",
    CLIENT_PORT: "Port of the peer.",
    GEN_AI_OPERATION_NAME: '"chat" or "text_completion".',
    GEN_AI_PROVIDER_NAME: 'Always "lepton".',
    GEN_AI_REQUEST_MODEL: "Model that was asked for.",
    GEN_AI_REQUEST_MAX_TOKENS: "Most tokens per choice.",
    GEN_AI_REQUEST_TEMPERATURE: "As requested.",
    GEN_AI_REQUEST_TOP_P: "As requested.",
    GEN_AI_REQUEST_TOP_K: "As requested.",
    GEN_AI_REQUEST_FREQUENCY_PENALTY: "As requested.",
    GEN_AI_REQUEST_PRESENCE_PENALTY: "As requested.",
    GEN_AI_REQUEST_SEED: "Seed in use.",
    GEN_AI_REQUEST_CHOICE_COUNT: "Number of answers.",
    GEN_AI_REQUEST_STREAM: "Whether the answer is streamed.",
    GEN_AI_RESPONSE_ID: "Request id.",
    GEN_AI_RESPONSE_MODEL: "Model that answered.",
    GEN_AI_RESPONSE_FINISH_REASONS: "One per choice.",
    GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: "Seconds from the request to the first message.",
    GEN_AI_USAGE_INPUT_TOKENS: "Tokens of the prompt.",
    GEN_AI_USAGE_OUTPUT_TOKENS: "Tokens generated, over all choices.",
    GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: "Prompt tokens from the prefix cache.",
    LEPTON_REQUEST_ID: "Id of the request in logs, traces and metadata.",
    LEPTON_WORKER_ID: "Worker that was chosen or that answers.",
    LEPTON_ROUTER_ID: "Router that sent the call.",
    LEPTON_REVISION: "Model revision, hex.",
    LEPTON_REASON: "Reason of the error (docs/errors.md).",
    LEPTON_ATTEMPT: "1 for the first worker that was tried.",
    LEPTON_CANDIDATES: "Workers that could have been chosen.",
    LEPTON_CHOICE: "Index of the choice.",
    LEPTON_CONSTRAINT: "Kind of the constraint: json_schema, regex, grammar, json_object or literals.",
    LEPTON_GRAMMAR_S: "Seconds from the text of the constraint to its compiled form, waiting included.",
    LEPTON_GRAMMAR_KNOWN: "Whether the constraint had been tried out before.",
    LEPTON_MIGRATION: "On a stream that another worker began: 1 for the first time that it moved.",
    LEPTON_MIGRATED_FROM: "Worker that was given up.",
    LEPTON_REPLAYED_TOKENS: "Tokens of the completion that were computed again.",
    LEPTON_REPLAY_MISMATCHES: "Of these, how many this worker would have drawn otherwise, as far as it drew again.",
    LEPTON_WAITED_S: "Seconds that the call waited for a worker to be there.",
    LEPTON_SNAPSHOT_AGE_S: "Seconds since the registry last confirmed the list of workers, at the choice.",
    LEPTON_SNAPSHOT_STALE: "Whether the registry could not be reached then.",
}
"""Attribute key → what it holds."""

# ---- metrics ----------------------------------------------------------------------------------------------

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

ROUTER_METRICS: Final = (
    REQUESTS,
    MetricSpec(
        name="lepton_requests_in_flight",
        kind="gauge",
        unit="1",
        help="Calls that the router is relaying.",
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
        name="lepton_retries_total",
        kind="counter",
        unit="1",
        labels=("reason",),
        help="Calls sent to another worker, by the reason of the first one's error.",
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
        help="Streams in which a worker broke the rules: events repeated, missing (gap), late, or unreadable.",
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
        help="Calls that ended two workers and are refused for a while (POISON_REQUEST).",
    ),
    MetricSpec(
        name="lepton_endpoints",
        kind="gauge",
        unit="1",
        labels=("state",),
        help="Workers by state, as the router sees them.",
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
)

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
        name="lepton_errors_total",
        kind="counter",
        unit="1",
        labels=("reason",),
        help="Calls that ended in an error, by reason (docs/errors.md).",
    ),
)
