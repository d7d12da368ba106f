"""Command line options → `GenerateRequest`. An option that is not given stays unset, so the model's default holds."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from common.errors import InvalidRequest, Reason
from lepton.v1 import inference_pb2, types_pb2

__all__ = [
    "GenerateOptions",
    "build_request",
    "chat_message",
    "parse_biases",
    "prompt_of",
    "read_stdin",
]

_PRIORITIES: Final = {
    "low": types_pb2.PRIORITY_LOW,
    "normal": types_pb2.PRIORITY_NORMAL,
    "high": types_pb2.PRIORITY_HIGH,
}
_ROLES: Final = {
    "system": types_pb2.ROLE_SYSTEM,
    "user": types_pb2.ROLE_USER,
    "assistant": types_pb2.ROLE_ASSISTANT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateOptions:
    """Everything but the prompt. None or empty: not said."""

    model: str = ""
    revision: str = ""
    request_id: str = ""
    session_key: str = ""
    priority: str = ""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    n: int | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    stop: Sequence[str] = ()
    stop_ids: Sequence[int] = ()
    ignore_eos: bool | None = None
    logprobs: int | None = None
    json_schema: str | None = None
    json_object: bool = False
    regex: str | None = None
    lark: str | None = None
    literals: Sequence[str] = ()


def build_request(
    prompt: str | types_pb2.TokenIds | Sequence[types_pb2.ChatMessage], options: GenerateOptions
) -> inference_pb2.GenerateRequest:
    """A text or token ids are continued as they are; messages go through the model's chat template.

    Raises `InvalidRequest` for numbers that the message cannot hold; everything else the server judges.
    """
    request = inference_pb2.GenerateRequest()
    try:
        if isinstance(prompt, str):
            request.text = prompt
        elif isinstance(prompt, types_pb2.TokenIds):
            request.token_ids.CopyFrom(prompt)
        else:
            request.chat.messages.extend(prompt)
        request.model, request.revision = options.model, options.revision
        request.request_id, request.session_key = options.request_id, options.session_key
        if options.priority:
            request.priority = _PRIORITIES[options.priority]
        _fill_sampling(request.sampling, options)
        _fill_stop(request.stop, options)
        _fill_constraint(request, options)
        if options.logprobs is not None:
            request.output.logprobs = options.logprobs
    except UnicodeError:
        raise _not_utf8() from None
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(
            f"a number does not fit: {error}", reason=Reason.FIELD_OUT_OF_RANGE
        ) from error
    return request


def chat_message(role: str, content: str) -> types_pb2.ChatMessage:
    """One message; `role` is system, user or assistant. Raises `InvalidRequest` for text that is not UTF-8."""
    try:
        return types_pb2.ChatMessage(role=_ROLES[role], content=content)
    except UnicodeError:
        raise _not_utf8() from None


def prompt_of(text: str, *, system: str | None, raw: bool) -> str | Sequence[types_pb2.ChatMessage]:
    """What `build_request` takes: one message of a user, after a system prompt if there is one, or the raw text. The
    text "-" is stdin.
    """
    text = read_stdin() if text == "-" else text
    if raw:
        return text
    messages = [chat_message("system", system)] if system is not None else []
    return [*messages, chat_message("user", text)]


def read_stdin() -> str:
    """All of it; what is not UTF-8 fails later, with our own words."""
    return sys.stdin.buffer.read().decode("utf-8", "surrogateescape")


def parse_biases(texts: Sequence[str]) -> dict[int, float]:
    """`ID=BIAS` each. Raises `InvalidRequest(FIELD_MALFORMED)`."""
    biases = {}
    for text in texts:
        token_id, _, bias = text.partition("=")
        try:
            biases[int(token_id)] = float(bias)
        except ValueError:
            raise InvalidRequest(
                f"--logit-bias {text!r}: write ID=BIAS, for example 42=-100",
                reason=Reason.FIELD_MALFORMED,
                field="sampling.logit_bias",
            ) from None
    return biases


def _not_utf8() -> InvalidRequest:
    return InvalidRequest("the text is not valid UTF-8", reason=Reason.MALFORMED_MESSAGE)


def _fill_sampling(sampling: types_pb2.SamplingParams, options: GenerateOptions) -> None:
    for name in (
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "frequency_penalty",
        "presence_penalty",
        "seed",
        "n",
    ):
        value = getattr(options, name)
        if value is not None:
            setattr(sampling, name, value)
    for token_id, bias in options.logit_bias.items():
        sampling.logit_bias[token_id] = bias


def _fill_stop(stop: types_pb2.StopConditions, options: GenerateOptions) -> None:
    for name in ("max_tokens", "min_tokens", "ignore_eos"):
        value = getattr(options, name)
        if value is not None:
            setattr(stop, name, value)
    stop.strings.extend(options.stop)
    stop.token_ids.extend(options.stop_ids)


def _fill_constraint(request: inference_pb2.GenerateRequest, options: GenerateOptions) -> None:
    """One of the kinds; the message has room for no more, so that a second would silently win."""
    given = [
        name
        for name, value in (
            ("--json-schema", options.json_schema),
            ("--json-object", options.json_object or None),
            ("--regex", options.regex),
            ("--lark", options.lark),
            ("--choice", options.literals or None),
        )
        if value is not None
    ]
    if len(given) > 1:
        raise InvalidRequest(
            f"{' and '.join(given)} contradict each other: an answer follows one of them",
            reason=Reason.FIELDS_CONTRADICT,
            field="constraint",
        )
    constraint = request.constraint
    if options.json_schema is not None:
        constraint.json_schema = options.json_schema
    elif options.json_object:
        constraint.json_object.SetInParent()
    elif options.regex is not None:
        constraint.regex = options.regex
    elif options.lark is not None:
        constraint.grammar = options.lark
    elif options.literals:
        constraint.literals.texts.extend(options.literals)
