"""Message → JSON: fast, since every token of every stream passes here.

Written are the names of the proto, which every reader of protobuf's JSON form takes. Numbers, texts and enums that have
no presence are always written, also when they are 0 or empty; lists and messages only when something is in them.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.json_form.kinds import FLOATS, WIDE, is_map

__all__ = ["as_json"]

Write = Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class _Writer:
    """How messages of one type are written."""

    defaults: Mapping[str, object]
    writes: Mapping[int, Write]
    """Field number → what makes JSON of a value; fields that are written as they are have none."""


def as_json(message: Message) -> dict[str, object]:
    """What `msgspec.json.encode` turns into the JSON form of `message`."""
    writer = _writer(message.DESCRIPTOR)
    written = dict(writer.defaults)
    writes = writer.writes
    for field, value in message.ListFields():
        write = writes.get(field.number)
        written[field.name] = value if write is None else write(value)
    return written


@cache
def _writer(descriptor: Descriptor) -> _Writer:
    defaults: dict[str, object] = {}
    writes: dict[int, Write] = {}
    for field in descriptor.fields:
        one = _write_of(field)
        if is_map(field):
            assert field.message_type is not None  # noqa: S101 - a map's entry
            value = _write_of(field.message_type.fields_by_name["value"])
            writes[field.number] = _writes_map(value)
        elif field.is_repeated:
            writes[field.number] = _writes_list(one)
        else:
            if one is not None:
                writes[field.number] = one
            if not field.has_presence:
                default = field.default_value
                defaults[field.name] = default if one is None else one(default)
    return _Writer(defaults, writes)


def _write_of(field: FieldDescriptor) -> Write | None:
    """Of one value; None where JSON has it as it is."""
    if field.message_type is not None:
        return as_json
    if field.cpp_type in WIDE:
        return str
    if field.cpp_type in FLOATS:
        return _written_number
    if field.enum_type is not None:
        names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
        return lambda number: names.get(number, number)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda data: base64.b64encode(data).decode("ascii")
    return None


def _writes_list(one: Write | None) -> Write:
    return list if one is None else lambda values: [one(value) for value in values]


def _writes_map(one: Write | None) -> Write:
    if one is None:
        return lambda pairs: {str(key): value for key, value in pairs.items()}
    return lambda pairs: {str(key): one(value) for key, value in pairs.items()}


def _written_number(number: float) -> float | str:
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else ("Infinity" if number > 0 else "-Infinity")
