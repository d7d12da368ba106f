"""JSON value → typed request, with errors that name the parameter."""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar

import msgspec

from common.errors import InvalidRequest, Reason
from gateway.openai.known import check_known

__all__ = ["read"]

RequestT = TypeVar("RequestT", bound=msgspec.Struct)

_PATH: Final = re.compile(r" - at `(?:key in )?\$\.?(.*?)`$")
_OUT_OF_RANGE: Final = re.compile(r"`(?:int|float)` [<>]=")
_MISSING: Final = re.compile(r"missing required field `(\w+)`")
_UNKNOWN: Final = re.compile(r"unknown field `([^`]*)`")


def read(value: Any, cls: type[RequestT]) -> RequestT:
    """`value` as a `cls`. Raises `InvalidRequest` or `Unsupported` for the first parameter that does not fit."""
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object", reason=Reason.FIELD_MALFORMED)
    kept = check_known(value, frozenset(cls.__struct_fields__))
    try:
        return msgspec.convert(kept, cls)
    except msgspec.ValidationError as error:
        raise _refused(str(error)) from error


def _refused(message: str) -> InvalidRequest:
    """Msgspec's words, as ours: "Expected `int` >= 0 - at `$.n`"."""
    found = _PATH.search(message)
    path = found[1] if found else ""
    words = _PATH.sub("", message)
    reason = Reason.FIELD_MALFORMED
    if missing := _MISSING.search(words):
        reason, path = Reason.FIELD_REQUIRED, _joined(path, missing[1])
        words = f"{path} is required"
    elif unknown := _UNKNOWN.search(words):
        path = _joined(path, unknown[1][:64])
        words = f"{path} is no parameter here"
    else:
        if _OUT_OF_RANGE.search(words):
            reason = Reason.FIELD_OUT_OF_RANGE
        words = f"{path}: {words[:1].lower()}{words[1:]}".replace("`", "")
    return InvalidRequest(words, reason=reason, field=path or None)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
