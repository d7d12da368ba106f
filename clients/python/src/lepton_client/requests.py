"""From arguments to the messages of the interface. Nothing is checked here: the cluster has the one validator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypedDict

from lepton.v1 import inference_pb2, types_pb2

__all__ = ["Fields", "Messages", "count_request", "generate_request", "tokenize_request"]

Messages = str | Iterable[Mapping[str, str] | types_pb2.ChatMessage]
"""A conversation: `{"role": "user", "content": "…"}` each, messages of the interface, or one user's text."""

_SAMPLING: Final = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "seed",
        "n",
    }
)
_STOP: Final = frozenset({"max_tokens", "min_tokens", "ignore_eos"})
_CONSTRAINT: Final = frozenset({"json_schema", "regex", "grammar"})
_OUTPUT: Final = frozenset({"logprobs", "token_ids"})


class Fields(TypedDict, total=False):
    """The common fields of a request, by the names that they have in the proto; all optional, meanings there."""

    model: str
    revision: str
    request_id: str
    session_key: str
    max_tokens: int
    min_tokens: int
    ignore_eos: bool
    stop: str | Iterable[str]
    """One stop string or several."""
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    logit_bias: Mapping[int, float]
    seed: int
    n: int
    json_schema: str
    regex: str
    grammar: str
    logprobs: int
    token_ids: bool


def generate_request(
    fields: Mapping[str, Any], *, text: str | None = None, messages: Messages | None = None
) -> inference_pb2.GenerateRequest:
    """A request with one of the inputs. TypeError for a name that no field has, ValueError for an unknown role."""
    request = inference_pb2.GenerateRequest()
    if text is not None:
        request.text = text
    if messages is not None:
        request.chat.CopyFrom(_chat(messages))
    for name, value in fields.items():
        if value is not None:
            _set(request, name, value)
    return request


def tokenize_request(text: Messages, model: str) -> inference_pb2.TokenizeRequest:
    """What `Tokenize` takes: a `str` is plain text here, anything else a conversation."""
    if isinstance(text, str):
        return inference_pb2.TokenizeRequest(model=model, text=text)
    return inference_pb2.TokenizeRequest(model=model, chat=_chat(text))


def count_request(text: Messages, model: str) -> inference_pb2.CountTokensRequest:
    """What `CountTokens` takes, likewise."""
    if isinstance(text, str):
        return inference_pb2.CountTokensRequest(model=model, text=text)
    return inference_pb2.CountTokensRequest(model=model, chat=_chat(text))


def _chat(messages: Messages) -> types_pb2.ChatInput:
    """ValueError for a role that is not system, user, assistant or tool."""
    if isinstance(messages, str):
        messages = ({"role": "user", "content": messages},)
    return types_pb2.ChatInput(messages=map(_message, messages))


def _message(message: Mapping[str, str] | types_pb2.ChatMessage) -> types_pb2.ChatMessage:
    if isinstance(message, types_pb2.ChatMessage):
        return message
    parts: dict[str, Any] = dict(message)
    role = f"ROLE_{parts.pop('role', 'user').upper()}"
    return types_pb2.ChatMessage(role=role, **parts)  # names of enums are values, too


def _set(request: inference_pb2.GenerateRequest, name: str, value: Any) -> None:
    if name == "stop":
        request.stop.strings.extend([value] if isinstance(value, str) else value)
    elif name == "logit_bias":
        request.sampling.logit_bias.update(value)
    elif name in _SAMPLING:
        setattr(request.sampling, name, value)
    elif name in _STOP:
        setattr(request.stop, name, value)
    elif name in _CONSTRAINT:
        setattr(request.constraint, name, value)
    elif name in _OUTPUT:
        setattr(request.output, name, value)
    elif name in Fields.__optional_keys__:
        setattr(request, name, value)
    else:
        raise TypeError(
            f"{name!r} is no field; there are {', '.join(sorted(Fields.__optional_keys__))}"
        )
