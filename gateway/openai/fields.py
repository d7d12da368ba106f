"""The requests of the dialect, as types: names and forms, nothing of what values mean.

Numbers are bounded only by what the cluster's own interface can hold; its validator knows the ranges. `null` is the
same as a field that is not there, as OpenAI's clients mean it.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

__all__ = [
    "ChatRequest",
    "CompletionRequest",
    "DetokenizeRequest",
    "FunctionCall",
    "FunctionTool",
    "JsonSchemaFormat",
    "LeptonOptions",
    "Message",
    "ResponseFormat",
    "Sampling",
    "StreamOptions",
    "StructuredOutputs",
    "TokenizeRequest",
    "ToolCall",
    "ToolDefinition",
]

U32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
TopK = Annotated[int, Meta(ge=-1, le=2**32 - 1, description="0 and -1 are off.")]


class _Closed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every name is known, or the request is refused."""


class StreamOptions(_Closed, frozen=True, kw_only=True):
    """How a stream ends."""

    include_usage: bool | None = None
    """A last chunk with the token counts, before `[DONE]`."""
    include_obfuscation: bool | None = None
    """Accepted, and without effect."""


class LeptonOptions(_Closed, frozen=True, kw_only=True):
    """What Lepton has and OpenAI has not; docs/resume.md and docs/routing.md say what it is good for."""

    resumable_ms: U32 | None = None
    """The call outlives its connection for so long; a stream then has an `id:` with each event, for `last-event-id`."""
    idempotency_key: str | None = None
    """A second request with the key joins the first one."""
    priority: str | None = None
    """`low`, `normal` or `high`."""
    session_key: str | None = None
    """Requests with the same key prefer the same worker."""
    revision: str | None = None
    """Content hash of the model revision, or a prefix of it."""
    timeout_ms: U32 | None = None
    """Longest time until the end of the answer."""
    queue_timeout_ms: U32 | None = None
    """Longest wait before it begins."""
    cache_bypass: bool | None = None
    """Neither read nor write the prefix cache."""


class JsonSchemaFormat(Struct, frozen=True, kw_only=True):
    """`response_format.json_schema`; what stands beside the schema is for people."""

    schema: dict[str, Any] | bool | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(_Closed, frozen=True, kw_only=True):
    """What form the answer has."""

    type: str
    """`text`, `json_object` or `json_schema`."""
    json_schema: JsonSchemaFormat | None = None


class StructuredOutputs(_Closed, frozen=True, kw_only=True):
    """vLLM's form of the same; exactly one of them."""

    json: dict[str, Any] | str | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None


class Sampling(Struct, frozen=True, kw_only=True):
    """What both kinds of completions have. Absent: the default of `lepton.v1`, so temperature 0."""

    model: str | None = None
    """Absent: the only model of the cluster."""
    n: U32 | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    max_tokens: U32 | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    # As in vLLM.
    top_k: TopK | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: U32 | None = None
    ignore_eos: bool | None = None
    stop_token_ids: list[U32] | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    structured_outputs: StructuredOutputs | None = None
    response_format: ResponseFormat | None = None
    cache_salt: str | None = None
    lepton: LeptonOptions | None = None


class FunctionCall(_Closed, frozen=True, kw_only=True):
    """A function with its arguments as JSON text."""

    name: str
    arguments: str = ""


class ToolCall(Struct, frozen=True, kw_only=True):
    """A call that the assistant made in an earlier turn."""

    id: str = ""
    type: str = "function"
    function: FunctionCall


class Message(Struct, frozen=True, kw_only=True):
    """One message of the conversation. Other names in it are what OpenAI's own answers carry, and are let be."""

    role: str
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class FunctionTool(_Closed, frozen=True, kw_only=True):
    """A function that the model may ask for."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolDefinition(_Closed, frozen=True, kw_only=True):
    """One of `tools`."""

    type: str
    function: FunctionTool


class ChatRequest(Sampling, frozen=True, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: list[Message]
    max_completion_tokens: U32 | None = None
    logprobs: bool | None = None
    top_logprobs: U32 | None = None
    tools: list[ToolDefinition] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    add_generation_prompt: bool | None = None
    prompt_cache_key: str | None = None
    """The same as `lepton.session_key`."""


class CompletionRequest(Sampling, frozen=True, kw_only=True):
    """`POST /v1/completions`."""

    prompt: str | list[Any]
    """A text, a list of token ids, or a list of either."""
    logprobs: U32 | None = None


class TokenizeRequest(Struct, frozen=True, kw_only=True):
    """`POST /tokenize`: one of `prompt` and `messages`."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None
    add_generation_prompt: bool | None = None
    tools: list[ToolDefinition] | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(Struct, frozen=True, kw_only=True):
    """`POST /detokenize`."""

    model: str | None = None
    tokens: list[U32]
