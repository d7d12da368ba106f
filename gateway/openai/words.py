"""Fields of `lepton.v1` in the words of the dialect, for errors: `sampling.top_p` is called `top_p` here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from common.errors import LeptonError

__all__ = ["in_our_words"]

_NAMES: Final = {
    "request_id": "x-request-id",
    "stop.strings": "stop",
    "stop.token_ids": "stop_token_ids",
    "text": "prompt",
    "token_ids": "prompt",
    "token_ids.ids": "prompt",
    "cache.salt": "cache_salt",
    "cache.bypass": "lepton.cache_bypass",
    "service_level.queue_timeout_ms": "lepton.queue_timeout_ms",
    "resume": "last-event-id",
    **{
        name: f"lepton.{name}"
        for name in ("resumable_ms", "idempotency_key", "priority", "session_key", "revision")
    },
}

_PATTERNS: Final = (
    (re.compile(r"^sampling\.logit_bias\[.*"), "logit_bias"),
    (re.compile(r"^stop\.strings\[.*"), "stop"),
    (re.compile(r"^stop\.token_ids\[.*"), "stop_token_ids"),
    (re.compile(r"^token_ids\.ids\[.*"), "prompt"),
    (re.compile(r"^resume\..*"), "last-event-id"),
    (re.compile(r"^chat\.tools(\[\d+\])\.parameters_json"), r"tools\1.function.parameters"),
    (re.compile(r"^chat\.tools(\[\d+\])\.(\w+)"), r"tools\1.function.\2"),
    (
        re.compile(r"^chat\.(messages\[\d+\]\.tool_calls\[\d+\])\.arguments_json"),
        r"\1.function.arguments",
    ),
    (re.compile(r"^chat\.(messages\[\d+\]\.tool_calls\[\d+\])\.name"), r"\1.function.name"),
    (re.compile(r"^(?:sampling|stop|chat)\.(.+)"), r"\1"),
)


def in_our_words(error: LeptonError, special: Mapping[str, str]) -> LeptonError:
    """The same error with its field named as the caller named it.

    `special` comes first: what this request called a field that has several names, by the field's beginning.
    """
    if error.field:
        error.field = _renamed(error.field, special)
    return error


def _renamed(field: str, special: Mapping[str, str]) -> str:
    for beginning, name in special.items():
        if field == beginning or field.startswith((f"{beginning}.", f"{beginning}[")):
            return name
    if field in _NAMES:
        return _NAMES[field]
    for pattern, name in _PATTERNS:
        if pattern.match(field):
            return pattern.sub(name, field)
    return field
