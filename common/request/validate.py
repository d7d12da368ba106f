"""The one validator of generation requests. Every surface of router and worker calls it.

It checks what can be known without the model: presence, finite numbers, ranges, counts, sizes.
What needs the model (context length, vocabulary) the worker checks in `worker.transport.convert`.
"""

from __future__ import annotations

import math
import re
from typing import Final, NoReturn

from google.protobuf.message import Message

from common.errors import InvalidRequest, LeptonError, Reason, Unsupported
from common.limits import Limits
from common.request.constraint import validate_constraint
from common.request.continuation import validate_continuation
from common.request.request_id import is_request_id
from common.request.resumption import validate_resumption
from common.request.tools import tool_bytes, validate_tools
from lepton.v1 import inference_pb2, types_pb2

__all__ = ["validate_detokenize", "validate_generate", "validate_tokenize"]

_REVISION: Final = re.compile(r"([0-9a-f]{8,64})?")
_SESSION_KEY_CHARS_MAX: Final = 128
_MODEL_CHARS_MAX: Final = 128
_SALT_BYTES_MAX: Final = 64

_RANGES: Final = {
    # field: (lowest, highest, lowest itself allowed)
    "temperature": (0.0, 10.0, True),
    "top_p": (0.0, 1.0, False),
    "min_p": (0.0, 1.0, True),
    "repetition_penalty": (0.0, 10.0, False),
    "frequency_penalty": (-2.0, 2.0, True),
    "presence_penalty": (-2.0, 2.0, True),
}
_BIAS_MAX: Final = 100.0
_TOP_K_MAX: Final = 1 << 20


def validate_generate(
    request: inference_pb2.GenerateRequest, limits: Limits, *, may_continue: bool = False
) -> None:
    """Returns when `request` is acceptable to any model; raises the typed error of the first fault otherwise.

    `may_continue` says that the caller proved to be a router, or has a ticket of one: others may not send
    `continuation`.
    """
    validate_continuation(request, limits, may_continue=may_continue)
    _refuse_reserved(request)
    _names(request)
    validate_resumption(request, limits)
    _input(request, limits)
    _sampling(request.sampling, limits)
    _stop(request.stop, limits)
    _output(request.output, limits)
    validate_constraint(request, limits)
    _message_size(request, limits)


def validate_tokenize(
    request: inference_pb2.TokenizeRequest | inference_pb2.CountTokensRequest, limits: Limits
) -> None:
    """The same for the two methods that only tokenize."""
    _model(request.model)
    _input(request, limits)
    _message_size(request, limits)


def validate_detokenize(request: inference_pb2.DetokenizeRequest, limits: Limits) -> None:
    """The same for the method that turns ids back into text."""
    _model(request.model)
    if len(request.token_ids) > limits.prompt_bytes_max:
        _fail(
            f"{len(request.token_ids)} ids; at most {limits.prompt_bytes_max} are allowed "
            "(setting limits.prompt_bytes_max)",
            Reason.FIELD_TOO_LARGE,
            "token_ids",
        )
    _message_size(request, limits)


def _input(
    request: inference_pb2.GenerateRequest
    | inference_pb2.TokenizeRequest
    | inference_pb2.CountTokensRequest,
    limits: Limits,
) -> None:
    """Checks the `input` of a request: there, not empty, within size and count limits."""
    kind = request.WhichOneof("input")
    if kind is None:
        _fail("an input is required: set text, chat or token_ids", Reason.FIELD_REQUIRED, "input")
    if kind == "text":
        _prompt_size(len(request.text.encode()), limits, "text")
        if not request.text:
            _fail("the prompt is empty; send at least one character", Reason.PROMPT_EMPTY, "text")
    elif kind == "chat":
        _chat(request.chat, limits)
    elif isinstance(request, inference_pb2.GenerateRequest) and not request.token_ids.ids:
        _fail("token_ids has no ids; send at least one", Reason.PROMPT_EMPTY, "token_ids.ids")


def _message_size(request: Message, limits: Limits) -> None:
    """Last, since the checks before name the field that is too large; this one catches the sum.

    A continuation may be as large once more: what a router adds must not make a request too large that was not.
    """
    num_bytes, num_bytes_max = request.ByteSize(), limits.message_bytes_max
    if isinstance(request, inference_pb2.GenerateRequest) and request.HasField("continuation"):
        num_bytes_max *= 2
    if num_bytes > num_bytes_max:
        raise InvalidRequest(
            f"the request has {num_bytes} bytes; at most {num_bytes_max} are allowed "
            "(setting limits.message_bytes_max)",
            reason=Reason.FIELD_TOO_LARGE,
        )


def _chat(chat: types_pb2.ChatInput, limits: Limits) -> None:
    if not chat.messages:
        _fail("the chat has no messages; send at least one", Reason.PROMPT_EMPTY, "chat.messages")
    if len(chat.messages) > limits.messages_max:
        _fail(
            f"{len(chat.messages)} messages; at most {limits.messages_max} are allowed",
            Reason.FIELD_TOO_LARGE,
            "chat.messages",
        )
    for index, message in enumerate(chat.messages):
        if message.role not in types_pb2.Role.values() or not message.role:
            _fail(
                f"message {index} has no known role; use SYSTEM, USER, ASSISTANT or TOOL",
                Reason.FIELD_MALFORMED,
                f"chat.messages[{index}].role",
            )
    num_bytes = sum(len(m.content.encode()) + len(m.name.encode()) for m in chat.messages)
    _prompt_size(num_bytes, limits, "chat.messages")
    _prompt_size(num_bytes + tool_bytes(chat), limits, "chat")
    validate_tools(chat, limits)


def _prompt_size(num_bytes: int, limits: Limits, field: str) -> None:
    if num_bytes > limits.prompt_bytes_max:
        _fail(
            f"the prompt has {num_bytes} bytes; at most {limits.prompt_bytes_max} are allowed "
            "(setting limits.prompt_bytes_max)",
            Reason.FIELD_TOO_LARGE,
            field,
        )


def _refuse_reserved(request: inference_pb2.GenerateRequest) -> None:
    if request.adapter:
        raise _unsupported("adapter", Reason.ADAPTER_UNSUPPORTED)


def _unsupported(field: str, reason: Reason) -> LeptonError:
    return Unsupported(
        f"{field} is not supported by this release; leave it out", reason=reason, field=field
    )


def _names(request: inference_pb2.GenerateRequest) -> None:
    if request.request_id and not is_request_id(request.request_id):
        _fail(
            "request_id may have at most 128 characters of A-Z a-z 0-9 . _ : -",
            Reason.FIELD_MALFORMED,
            "request_id",
        )
    _model(request.model)
    if not _REVISION.fullmatch(request.revision):
        _fail("revision is 8 to 64 hex digits", Reason.FIELD_MALFORMED, "revision")
    if len(request.session_key) > _SESSION_KEY_CHARS_MAX:
        _fail(f"at most {_SESSION_KEY_CHARS_MAX} characters", Reason.FIELD_TOO_LARGE, "session_key")
    if len(request.cache.salt.encode()) > _SALT_BYTES_MAX:
        _fail(f"at most {_SALT_BYTES_MAX} bytes", Reason.FIELD_TOO_LARGE, "cache.salt")
    if request.priority not in types_pb2.Priority.values():
        _fail("unknown priority; use LOW, NORMAL or HIGH", Reason.FIELD_MALFORMED, "priority")


def _model(name: str) -> None:
    if len(name) > _MODEL_CHARS_MAX:
        _fail(f"at most {_MODEL_CHARS_MAX} characters", Reason.FIELD_TOO_LARGE, "model")


def _sampling(sampling: types_pb2.SamplingParams, limits: Limits) -> None:
    for name, (low, high, low_allowed) in _RANGES.items():
        if sampling.HasField(name):
            field = f"sampling.{name}"
            value = _finite(getattr(sampling, name), field)
            if value > high or value < low or (value == low and not low_allowed):
                bracket = "[" if low_allowed else "("
                _fail(
                    f"{name} is {value:g}; the range is {bracket}{low:g}, {high:g}]",
                    Reason.FIELD_OUT_OF_RANGE,
                    field,
                )
    if sampling.top_k > _TOP_K_MAX:
        _fail(
            f"top_k is {sampling.top_k}; at most {_TOP_K_MAX} (0 is off)",
            Reason.FIELD_OUT_OF_RANGE,
            "sampling.top_k",
        )
    if sampling.HasField("n") and not 1 <= sampling.n <= limits.choices_max:
        _fail(
            f"n is {sampling.n}; the range is 1 to {limits.choices_max}",
            Reason.FIELD_OUT_OF_RANGE,
            "sampling.n",
        )
    if len(sampling.logit_bias) > limits.logit_bias_max:
        _fail(
            f"{len(sampling.logit_bias)} biases; at most {limits.logit_bias_max} are allowed",
            Reason.FIELD_TOO_LARGE,
            "sampling.logit_bias",
        )
    for token_id, bias in sampling.logit_bias.items():
        field = f"sampling.logit_bias[{token_id}]"
        if abs(_finite(bias, field)) > _BIAS_MAX:
            _fail(f"bias {bias:g}; the range is [-100, 100]", Reason.FIELD_OUT_OF_RANGE, field)


def _stop(stop: types_pb2.StopConditions, limits: Limits) -> None:
    if stop.HasField("max_tokens") and stop.max_tokens == 0:
        _fail("max_tokens is 0; ask for at least 1", Reason.FIELD_OUT_OF_RANGE, "stop.max_tokens")
    if stop.HasField("max_tokens") and stop.min_tokens > stop.max_tokens:
        _fail(
            f"min_tokens {stop.min_tokens} is above max_tokens {stop.max_tokens}",
            Reason.FIELD_OUT_OF_RANGE,
            "stop.min_tokens",
        )
    if len(stop.strings) > limits.stop_strings_max:
        _fail(
            f"{len(stop.strings)} stop strings; at most {limits.stop_strings_max} are allowed",
            Reason.FIELD_TOO_LARGE,
            "stop.strings",
        )
    for index, text in enumerate(stop.strings):
        if not 1 <= len(text.encode()) <= limits.stop_bytes_max:
            _fail(
                f"a stop string has 1 to {limits.stop_bytes_max} bytes",
                Reason.FIELD_OUT_OF_RANGE,
                f"stop.strings[{index}]",
            )
    if len(stop.token_ids) > limits.stop_ids_max:
        _fail(
            f"{len(stop.token_ids)} stop ids; at most {limits.stop_ids_max} are allowed",
            Reason.FIELD_TOO_LARGE,
            "stop.token_ids",
        )


def _output(output: types_pb2.OutputOptions, limits: Limits) -> None:
    if output.logprobs > limits.logprobs_max:
        _fail(
            f"logprobs is {output.logprobs}; at most {limits.logprobs_max}",
            Reason.FIELD_OUT_OF_RANGE,
            "output.logprobs",
        )


def _finite(value: float, field: str) -> float:
    if not math.isfinite(value):
        _fail(f"{field} must be a finite number, not {value}", Reason.FIELD_NOT_FINITE, field)
    return value


def _fail(message: str, reason: Reason, field: str) -> NoReturn:
    raise InvalidRequest(message, reason=reason, field=field)
