"""Requests of every kind that a client may send, by kind and number: the same number is the same request."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from lepton.v1 import inference_pb2, types_pb2

__all__ = ["KINDS", "make_request"]

_SHARED: Final = (
    "You are a careful assistant of a small cluster. You answer in whole sentences, you count from one, and you never "
    "forget what was said before. "
)
_SCHEMA: Final = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 6},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


def make_request(
    kind: str, number: int, max_tokens: int, *, model: str = ""
) -> inference_pb2.GenerateRequest:
    """`model` may be left out where there is only one. Raises KeyError for an unknown kind."""
    request = inference_pb2.GenerateRequest(model=model)
    request.stop.max_tokens = max_tokens
    request.stop.ignore_eos = True  # so that streams are long enough to be hit
    KINDS[kind](request, number)
    return request


def _greedy(request: Any, number: int) -> None:
    request.text = f"{number}. What is {10 + number} + {20 + number}?"


def _seeded(request: Any, number: int) -> None:
    _greedy(request, number)
    request.sampling.temperature = 0.9
    request.sampling.top_p = 0.95
    request.sampling.seed = 1000 + number


def _penalties(request: Any, number: int) -> None:
    _seeded(request, number)
    request.sampling.repetition_penalty = 1.1
    request.sampling.frequency_penalty = 0.3
    request.sampling.presence_penalty = 0.2
    request.sampling.logit_bias[7] = -2.0


def _stop(request: Any, number: int) -> None:
    _seeded(request, number)
    # Long needles that are begun again and again, and never completed: text is held back at every moment.
    request.stop.strings.extend(["bababababa", "the end of it all", "\n\n\n\n"])


def _logprobs(request: Any, number: int) -> None:
    _seeded(request, number)
    request.output.logprobs = 3


def _choices(request: Any, number: int) -> None:
    _seeded(request, number)
    request.sampling.n = 2


def _chat(request: Any, number: int) -> None:
    messages = request.chat.messages
    messages.add(role=types_pb2.ROLE_SYSTEM, content="You are brief.")
    messages.add(role=types_pb2.ROLE_USER, content=f"Add {number} and {number + 5}.")


def _long(request: Any, number: int) -> None:
    """Several chunks, and a beginning that others share."""
    request.text = _SHARED * 4 + f"{number}. " + _SHARED * 2 + "Now answer:"


def _json(request: Any, number: int) -> None:
    _chat(request, number)
    request.stop.ignore_eos = False
    request.constraint.json_schema = json.dumps(_SCHEMA)
    request.sampling.temperature = 0.9
    request.sampling.seed = 2000 + number


KINDS: Final[dict[str, Callable[[Any, int], None]]] = {
    "greedy": _greedy,
    "seeded": _seeded,
    "penalties": _penalties,
    "stop": _stop,
    "logprobs": _logprobs,
    "choices": _choices,
    "chat": _chat,
    "long": _long,
    "json": _json,
}
"""Kind → what makes it one. The oracle refuses `json`."""
