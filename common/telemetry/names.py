"""Every name of a span or attribute. docs/telemetry.md is generated from this file and from the metrics beside it.

Attributes follow the OpenTelemetry conventions for RPC (release candidate of 1.44) and for generative AI (development);
`lepton.*` are our own.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ATTRIBUTES",
    "SPANS",
    "UNTRACED_METHODS",
    "UNTRACED_SERVICES",
]

# ---- spans ------------------------------------------------------------------------------------------------

ROUTE_SPAN: Final = "lepton.route"
ADMISSION_SPAN: Final = "lepton.admission"
QUEUE_SPAN: Final = "lepton.queue"
TOKENIZE_SPAN: Final = "lepton.tokenize"
PREFILL_SPAN: Final = "lepton.prefill"
DECODE_SPAN: Final = "lepton.decode"
DETACHED_SPAN: Final = "lepton.detached"

SPANS: Final[dict[str, str]] = {
    "<package>.<Service>/<Method>": "One RPC. SERVER in the process that answers, CLIENT in the one that asks.",
    "<METHOD> <route>": "One request or WebSocket at the HTTP door. SERVER.",
    ADMISSION_SPAN: "Router: the wait for a free row of a worker; only of calls that wait.",
    ROUTE_SPAN: "Router: from the parsed request to the chosen worker; one per attempt.",
    TOKENIZE_SPAN: "Worker: chat template and tokenizer.",
    QUEUE_SPAN: "Worker: from the engine's queue to the first model run of the request.",
    PREFILL_SPAN: "Worker: from the first model run to the first token.",
    DECODE_SPAN: "Worker: from the first token to the last.",
    DETACHED_SPAN: "Worker: the generation of a call that may outlive its connection; it holds the four above.",
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
HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
HTTP_ROUTE: Final = "http.route"
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
LEPTON_SCORED: Final = "lepton.scored"
LEPTON_SCORES: Final = "lepton.scores"
LEPTON_PROMPT_BYTES: Final = "lepton.prompt_bytes"
LEPTON_KNOWN_BYTES: Final = "lepton.known_bytes"
LEPTON_CHOICE: Final = "lepton.choice"
LEPTON_CONSTRAINT: Final = "lepton.constraint"
LEPTON_GRAMMAR_S: Final = "lepton.grammar_s"
LEPTON_GRAMMAR_KNOWN: Final = "lepton.grammar_known"
LEPTON_MIGRATION: Final = "lepton.migration"
LEPTON_MIGRATED_FROM: Final = "lepton.migrated_from"
LEPTON_REPLAYED_TOKENS: Final = "lepton.replayed_tokens"
LEPTON_REPLAY_MISMATCHES: Final = "lepton.replay_mismatches"
LEPTON_WAITED_S: Final = "lepton.waited_s"
LEPTON_QUEUED_S: Final = "lepton.queued_s"
LEPTON_PREDICTED_S: Final = "lepton.predicted_s"
LEPTON_SNAPSHOT_AGE_S: Final = "lepton.snapshot_age_s"
LEPTON_SNAPSHOT_STALE: Final = "lepton.snapshot_stale"

ATTRIBUTES: Final[dict[str, str]] = {
    RPC_SYSTEM_NAME: 'Always "grpc".',
    RPC_METHOD: "`package.Service/Method`.",
    RPC_RESPONSE_STATUS_CODE: 'gRPC code by name, for example "OK" or "CANCELLED".',
    ERROR_TYPE: "gRPC code by name, or HTTP status, on calls that failed.",
    HTTP_REQUEST_METHOD: "Method of the HTTP request.",
    HTTP_RESPONSE_STATUS_CODE: "Status of the HTTP response; 101 for a WebSocket.",
    HTTP_ROUTE: 'Path of the route, for example "/v1/models/{id}"; "none" for an unknown one.',
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
    LEPTON_SCORED: "Workers that were looked at; a policy may look at a few of many.",
    LEPTON_SCORES: "Why the chosen worker was: one `scorer=score` each, 0 to 1, before weights.",
    LEPTON_PROMPT_BYTES: "Bytes of the prompt that were hashed for affinity.",
    LEPTON_KNOWN_BYTES: "Of these, bytes that the chosen worker is believed to have in its cache.",
    LEPTON_CHOICE: "Index of the choice.",
    LEPTON_CONSTRAINT: "Kind of the constraint: json_schema, regex, grammar, json_object or literals.",
    LEPTON_GRAMMAR_S: "Seconds from the text of the constraint to its compiled form, waiting included.",
    LEPTON_GRAMMAR_KNOWN: "Whether the constraint had been tried out before.",
    LEPTON_MIGRATION: "On a stream that another worker began: 1 for the first time that it moved.",
    LEPTON_MIGRATED_FROM: "Worker that was given up.",
    LEPTON_REPLAYED_TOKENS: "Tokens of the completion that were computed again.",
    LEPTON_REPLAY_MISMATCHES: "Of these, how many this worker would have drawn otherwise, as far as it drew again.",
    LEPTON_WAITED_S: "Seconds that the call waited for a worker to be there.",
    LEPTON_QUEUED_S: "Seconds that the call waited in the router for a free row of a worker.",
    LEPTON_PREDICTED_S: "Seconds that it was expected to wait.",
    LEPTON_SNAPSHOT_AGE_S: "Seconds since the registry last confirmed the list of workers, at the choice.",
    LEPTON_SNAPSHOT_STALE: "Whether the registry could not be reached then.",
}
"""Attribute key → what it holds."""
