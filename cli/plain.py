"""Protobuf messages as JSON data: field names as in the proto, 64-bit numbers as numbers, enums by name."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from lepton.v1 import inference_pb2

__all__ = ["plain", "plain_event"]


def plain(message: Message) -> dict[str, Any]:
    """What is set in `message`. A field that is not set and has no presence of its own (0, "", []) is left out."""
    return {field.name: _value(field, value) for field, value in message.ListFields()}


def plain_event(event: inference_pb2.Event) -> dict[str, Any]:
    """An event with its `seq` always there, also when it is 0."""
    return {"seq": event.seq, **{k: v for k, v in plain(event).items() if k != "seq"}}


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return {str(key): item for key, item in value.items()}
    if field.is_repeated:
        return [_one(field, item) for item in value]
    return _one(field, value)


def _one(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return plain(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value
