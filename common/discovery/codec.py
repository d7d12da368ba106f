"""An `Instance` as the bytes that a registry stores, and back.

One flat JSON object. `format` is raised only for a change that older readers would misunderstand; they then skip the
entry and report it. New fields are simply added: readers ignore what they do not know. What is read is treated as
hostile: every field is checked for type and size before an `Instance` exists.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from common.discovery.api import Instance, InstanceState
from common.errors import Conflict, Reason

__all__ = ["FORMAT", "VALUE_BYTES_MAX", "BadValue", "check_id", "decode", "encode", "from_fields"]

FORMAT: Final = 1
VALUE_BYTES_MAX: Final = 64 << 10
"""Longest value, bytes."""

_TEXT_CHARS_MAX: Final = 1024
_TASKS_MAX: Final = 64
_INT_MAX: Final = 2**31 - 1
_HOST: Final = re.compile(r"[^\s:/\[\]]+|\[[0-9A-Fa-f:.]+\]")
"""A name, an IPv4 address or an IPv6 address in brackets; never a gRPC target with a scheme ("unix:…")."""
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)


class BadValue(ValueError):
    """A value that is not a worker; the message says what is wrong with it, without quoting it at length."""


def check_id(worker_id: str) -> str:
    """The id, when it can be a key and a file name; else `Conflict(SETTING_INVALID)`."""
    if not _ID.fullmatch(worker_id):
        raise Conflict(
            f"worker id {worker_id[:128]!r}: use 1 to 128 of A-Z a-z 0-9 . _ - and begin with a letter or digit",
            reason=Reason.SETTING_INVALID,
        )
    return worker_id


def encode(instance: Instance) -> bytes:
    """UTF-8 JSON of at most `VALUE_BYTES_MAX` bytes.

    Raises `Conflict(SETTING_INVALID)` for an instance that readers would refuse, so that a worker learns of
    it at start and not by being invisible.
    """
    check_id(instance.id)
    try:
        value = json.dumps(
            {"format": FORMAT, **asdict(instance)}, ensure_ascii=False, separators=(",", ":")
        ).encode()
        decode(value)
    except ValueError as error:
        raise Conflict(
            f"worker {instance.id} cannot be announced: {error}", reason=Reason.SETTING_INVALID
        ) from error
    return value


def decode(value: bytes) -> Instance:
    """The instance in `value`; raises `BadValue` for anything else."""
    if len(value) > VALUE_BYTES_MAX:
        raise BadValue(f"{len(value)} bytes; at most {VALUE_BYTES_MAX} are read")
    try:
        fields = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise BadValue("not JSON") from error
    return from_fields(fields)


def from_fields(fields: object) -> Instance:
    """The instance that a decoded JSON value describes; raises `BadValue` for anything else."""
    if not isinstance(fields, Mapping):
        raise BadValue("not a JSON object")
    written = _int(fields, "format")
    if written != FORMAT:
        raise BadValue(f"format {written}; this release reads {FORMAT}")
    worker_id = _text(fields, "id")
    if not _ID.fullmatch(worker_id):
        raise BadValue("id has characters that ids may not have")
    return Instance(
        id=worker_id,
        incarnation=_text(fields, "incarnation", empty=False),
        address=_address(fields, "address"),
        model=_text(fields, "model", empty=False),
        revision=_text(fields, "revision"),
        tasks=_texts(fields, "tasks"),
        context_length=_int(fields, "context_length"),
        vocab_size=_int(fields, "vocab_size"),
        rows_max=_int(fields, "rows_max"),
        fingerprint=_text(fields, "fingerprint"),
        version=_text(fields, "version"),
        state=_state(fields),
        # Older workers do not write it.
        tool_format=_checked_text(fields.get("tool_format", ""), "tool_format", empty=True),
        metrics_address=_address(fields, "metrics_address")
        if fields.get("metrics_address")
        else "",
    )


def _get(fields: Mapping[str, Any], name: str) -> Any:
    if name not in fields:
        raise BadValue(f"{name} is missing")
    return fields[name]


def _text(fields: Mapping[str, Any], name: str, *, empty: bool = True) -> str:
    return _checked_text(_get(fields, name), name, empty=empty)


def _checked_text(text: Any, name: str, *, empty: bool) -> str:
    if not isinstance(text, str):
        raise BadValue(f"{name} is not a string")
    if len(text) > _TEXT_CHARS_MAX:
        raise BadValue(f"{name} has {len(text)} characters; at most {_TEXT_CHARS_MAX} are read")
    if not (text or empty):
        raise BadValue(f"{name} is empty")
    if not text.isprintable():
        # `lepton ps` and logs show them: no entry may drive a terminal.
        raise BadValue(f"{name} has characters that cannot be shown")
    return text


def _texts(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    texts = _get(fields, name)
    if not isinstance(texts, list):
        raise BadValue(f"{name} is not a list")
    if len(texts) > _TASKS_MAX:
        raise BadValue(f"{name} has {len(texts)} entries; at most {_TASKS_MAX} are read")
    return tuple(_checked_text(text, name, empty=False) for text in texts)


def _int(fields: Mapping[str, Any], name: str) -> int:
    number = _get(fields, name)
    if not isinstance(number, int) or isinstance(number, bool):
        raise BadValue(f"{name} is not a whole number")
    if not 1 <= number <= _INT_MAX:
        raise BadValue(f"{name} is outside 1 to {_INT_MAX}")
    return number


def _address(fields: Mapping[str, Any], name: str) -> str:
    address = _text(fields, name)
    host, _, port = address.rpartition(":")
    if not _HOST.fullmatch(host) or not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise BadValue(f"{name} is not host:port")
    if not 1 <= int(port) <= 65535:
        raise BadValue(f"{name} has a port outside 1 to 65535")
    return address


def _state(fields: Mapping[str, Any]) -> InstanceState:
    state = _text(fields, "state")
    try:
        return InstanceState(state)
    except ValueError:
        raise BadValue(f"state {state[:32]!r} is unknown") from None
