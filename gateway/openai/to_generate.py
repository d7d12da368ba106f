"""Typed requests → `GenerateRequest`. Pure; ranges are the validator's business, only what the message cannot hold is
refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from common.errors import InvalidRequest, Reason, Unsupported
from gateway.openai.constraints import constraint_of
from gateway.openai.fields import ChatRequest, CompletionRequest, LeptonOptions, Message, Sampling
from lepton.v1 import inference_pb2, types_pb2

__all__ = [
    "chat_to_generate",
    "completion_to_generate",
    "messages_to_chat",
    "prompts_of",
    "timeout_s_of",
]

_ROLES: Final = {
    "system": types_pb2.ROLE_SYSTEM,
    "developer": types_pb2.ROLE_SYSTEM,
    "user": types_pb2.ROLE_USER,
    "assistant": types_pb2.ROLE_ASSISTANT,
    "tool": types_pb2.ROLE_TOOL,
}
_PRIORITIES: Final = {
    "low": types_pb2.PRIORITY_LOW,
    "normal": types_pb2.PRIORITY_NORMAL,
    "high": types_pb2.PRIORITY_HIGH,
}
_SAME_NAME: Final = (
    "temperature",
    "top_p",
    "min_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "n",
)
_DIGITS: Final = re.compile(r"-?[0-9]{1,20}")
_IDS_BELOW: Final = 2**32
_SEEDS: Final = range(-(2**63), 2**64)

Prompt = str | list[int]


def chat_to_generate(request: ChatRequest, request_id: str) -> inference_pb2.GenerateRequest:
    """A chat without its tools, which `gateway.tools` plans. Raises `InvalidRequest`, `Unsupported`."""
    made = _common(request, request_id)
    made.chat.CopyFrom(messages_to_chat(request.messages))
    if request.add_generation_prompt is not None:
        made.chat.add_generation_prompt = request.add_generation_prompt
    longest = request.max_completion_tokens
    if longest is not None:
        if request.max_tokens not in (None, longest):
            raise InvalidRequest(
                "max_tokens and max_completion_tokens mean the same and differ; keep the second",
                reason=Reason.FIELDS_CONTRADICT,
                field="max_tokens",
            )
        made.stop.max_tokens = longest
    if request.logprobs:
        made.output.logprobs = request.top_logprobs or 0
    elif request.top_logprobs:
        raise InvalidRequest(
            "top_logprobs needs logprobs: true",
            reason=Reason.FIELDS_CONTRADICT,
            field="top_logprobs",
        )
    if request.prompt_cache_key and not made.session_key:
        made.session_key = request.prompt_cache_key
    return made


def completion_to_generate(
    request: CompletionRequest, prompt: Prompt, request_id: str
) -> inference_pb2.GenerateRequest:
    """One prompt of a completion request. Raises `InvalidRequest`."""
    made = _common(request, request_id)
    if isinstance(prompt, str):
        made.text = prompt
    else:
        made.token_ids.ids.extend(prompt)
    if request.logprobs is not None:
        made.output.logprobs = request.logprobs
    return made


def prompts_of(request: CompletionRequest, prompts_max: int) -> list[Prompt]:
    """The prompts, each a text or token ids.

    Raises `InvalidRequest` with PROMPT_EMPTY, FIELD_TOO_LARGE, FIELD_MALFORMED or TOKEN_ID_OUT_OF_RANGE.
    """
    given = request.prompt
    if isinstance(given, str):
        return [given]
    if not given:
        raise InvalidRequest(
            "prompt is an empty list; send at least one", reason=Reason.PROMPT_EMPTY, field="prompt"
        )
    if all(_is_int(one) for one in given):
        return [_ids(given)]
    if len(given) > prompts_max:
        raise InvalidRequest(
            f"{len(given)} prompts; at most {prompts_max} are allowed in one request (setting gateway.prompts_max)",
            reason=Reason.FIELD_TOO_LARGE,
            field="prompt",
        )
    return [one if isinstance(one, str) else _ids(one) for one in given]


def timeout_s_of(request: Sampling) -> float | None:
    """The caller's deadline, seconds from now."""
    wanted = request.lepton.timeout_ms if request.lepton else None
    return None if wanted is None else wanted / 1e3


def messages_to_chat(messages: Sequence[Message]) -> types_pb2.ChatInput:
    """A conversation. Raises `InvalidRequest` for a role that is none, `Unsupported` for what is not text."""
    return types_pb2.ChatInput(
        messages=[
            types_pb2.ChatMessage(
                role=_role(message.role, index),
                content=_content(message.content, index),
                name=message.name or "",
                tool_calls=[
                    types_pb2.ToolCall(
                        id=call.id, name=call.function.name, arguments_json=call.function.arguments
                    )
                    for call in message.tool_calls or ()
                ],
                tool_call_id=message.tool_call_id or "",
            )
            for index, message in enumerate(messages)
        ]
    )


def _common(request: Sampling, request_id: str) -> inference_pb2.GenerateRequest:
    made = inference_pb2.GenerateRequest(request_id=request_id, model=request.model or "")
    for name in _SAME_NAME:
        if (value := getattr(request, name)) is not None:
            setattr(made.sampling, name, value)
    if request.top_k is not None:
        made.sampling.top_k = max(0, request.top_k)
    for key, bias in (request.logit_bias or {}).items():
        made.sampling.logit_bias[_token_id(key)] = bias
    if request.seed is not None:
        if request.seed not in _SEEDS:
            raise InvalidRequest(
                "seed is an integer of 64 bits", reason=Reason.FIELD_OUT_OF_RANGE, field="seed"
            )
        made.sampling.seed = request.seed % 2**64
    _stop(request, made.stop)
    constraint = constraint_of(request)
    if constraint is not None:
        made.constraint.CopyFrom(constraint)
    if request.cache_salt:
        made.cache.salt = request.cache_salt
    if request.lepton is not None:
        _own(request.lepton, made)
    return made


def _stop(request: Sampling, stop: types_pb2.StopConditions) -> None:
    if request.max_tokens is not None:
        stop.max_tokens = request.max_tokens
    if request.min_tokens is not None:
        stop.min_tokens = request.min_tokens
    if request.ignore_eos is not None:
        stop.ignore_eos = request.ignore_eos
    if request.stop is not None:
        stop.strings.extend([request.stop] if isinstance(request.stop, str) else request.stop)
    if request.stop_token_ids:
        stop.token_ids.extend(request.stop_token_ids)


def _own(options: LeptonOptions, made: inference_pb2.GenerateRequest) -> None:
    for name in ("resumable_ms", "idempotency_key", "session_key", "revision"):
        if (value := getattr(options, name)) is not None:
            setattr(made, name, value)
    if options.priority is not None:
        if options.priority not in _PRIORITIES:
            raise InvalidRequest(
                f"lepton.priority is one of {', '.join(_PRIORITIES)}",
                reason=Reason.FIELD_MALFORMED,
                field="lepton.priority",
            )
        made.priority = _PRIORITIES[options.priority]
    if options.queue_timeout_ms is not None:
        made.service_level.queue_timeout_ms = options.queue_timeout_ms
    if options.cache_bypass:
        made.cache.bypass = True


def _role(name: str, index: int) -> types_pb2.Role:
    if name not in _ROLES:
        raise InvalidRequest(
            f"messages[{index}].role is one of {', '.join(_ROLES)}",
            reason=Reason.FIELD_MALFORMED,
            field=f"messages[{index}].role",
        )
    return _ROLES[name]


def _content(content: str | list[dict[str, Any]] | None, index: int) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(_texts(content, index))


def _texts(parts: Sequence[dict[str, Any]], index: int) -> Iterator[str]:
    for number, part in enumerate(parts):
        where = f"messages[{index}].content[{number}]"
        kind = part.get("type")
        if kind not in {"text", "refusal"}:
            raise Unsupported(
                f"{where}.type is {str(kind)[:64]!r}; only text can be read",
                reason=Reason.PARAMETER_UNSUPPORTED,
                field=f"{where}.type",
            )
        text = part.get(kind)
        if not isinstance(text, str):
            raise InvalidRequest(
                f"{where}.{kind} is required, a text",
                reason=Reason.FIELD_REQUIRED if text is None else Reason.FIELD_MALFORMED,
                field=f"{where}.{kind}",
            )
        yield text


def _ids(given: Any) -> list[int]:
    if not isinstance(given, list) or not all(_is_int(one) for one in given):
        raise InvalidRequest(
            "prompt is a text, a list of token ids, or a list of texts or lists of token ids",
            reason=Reason.FIELD_MALFORMED,
            field="prompt",
        )
    if given and not 0 <= min(given) <= max(given) < _IDS_BELOW:
        raise InvalidRequest(
            "prompt has a token id that is negative, or has more than 32 bits",
            reason=Reason.TOKEN_ID_OUT_OF_RANGE,
            field="prompt",
        )
    return given


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _token_id(key: str) -> int:
    is_number = _DIGITS.fullmatch(key) is not None
    if not is_number or int(key) not in range(_IDS_BELOW):
        raise InvalidRequest(
            f"logit_bias: {key[:32]!r} is no token id",
            reason=Reason.FIELD_OUT_OF_RANGE if is_number else Reason.FIELD_MALFORMED,
            field="logit_bias",
        )
    return int(key)
