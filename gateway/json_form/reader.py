"""JSON → message: every fault is named by its path, in proto spelling.

As protobuf has it: field names in snake_case or camelCase, 64-bit integers as numbers or in quotes, enums by name or
number, bytes in base64, `null` for what is not set. Stricter than protobuf in what is probably a mistake: other numbers
in quotes, truth values for numbers, two spellings of one field.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final, NoReturn, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from common.errors import InvalidRequest, Reason
from gateway.json_form.kinds import FLOATS, INTEGERS, WIDE, is_map

__all__ = ["from_json"]

MessageT = TypeVar("MessageT", bound=Message)

_DIGITS: Final = re.compile(r"-?[0-9]{1,20}")
_NOT_FINITE: Final = frozenset({"NaN", "Infinity", "-Infinity"})
_NAME_CHARS_MAX: Final = 64


def from_json(cls: type[MessageT], value: object, *, path: str = "") -> MessageT:
    """The message that a decoded JSON value stands for; `path` is where the value was found.

    Raises `InvalidRequest` with the path of the first fault in proto spelling, for example "chat.messages[0].role".
    """
    message = cls()
    _fill(message, value, path)
    return message


# --- inside ---------------------------------------------------------------------------------


@cache
def _fields(descriptor: Descriptor) -> Mapping[str, FieldDescriptor]:
    return {
        name: field for field in descriptor.fields for name in (field.name, field.camelcase_name)
    }


def _fill(message: Message, value: object, path: str) -> None:
    if not isinstance(value, dict):
        _fail("must be an object", path)
    fields = _fields(message.DESCRIPTOR)
    given: set[str] = set()
    for name, item in value.items():
        field = fields.get(name)
        if field is None:
            known = ", ".join(each.name for each in message.DESCRIPTOR.fields)
            _fail(
                f"unknown field; there are {known or 'no fields'}",
                _join(path, name[:_NAME_CHARS_MAX] or '""'),
            )
        where = _join(path, field.name)
        if field.name in given:
            _fail("given twice, in two spellings", where)
        given.add(field.name)
        if item is None:
            continue
        group = field.containing_oneof
        if group is not None and (other := message.WhichOneof(group.name)) is not None:
            _fail(
                f"cannot stand beside {_join(path, other)}; send one of them",
                where,
                Reason.FIELDS_CONTRADICT,
            )
        _set(message, field, item, where)


def _set(message: Message, field: FieldDescriptor, item: object, where: str) -> None:
    if is_map(field):
        _set_map(getattr(message, field.name), field, item, where)
    elif field.is_repeated:
        if not isinstance(item, list):
            _fail("must be a list", where)
        target = getattr(message, field.name)
        if field.message_type is not None:
            for index, each in enumerate(item):
                _fill(target.add(), each, f"{where}[{index}]")
        else:
            target.extend(_scalars(field, item, where))
    elif field.message_type is not None:
        target = getattr(message, field.name)
        target.SetInParent()
        _fill(target, item, where)
    else:
        setattr(message, field.name, _scalar(field, item, where))


def _set_map(target: Any, field: FieldDescriptor, item: object, where: str) -> None:
    if not isinstance(item, dict):
        _fail("must be an object", where)
    assert field.message_type is not None  # noqa: S101 - a map's entry
    entry = field.message_type.fields_by_name
    for name, each in item.items():
        at = f"{where}[{name[:_NAME_CHARS_MAX]}]"
        key = _key(entry["key"], name, at)
        if key in target:
            _fail("given twice, in two spellings", at)
        if entry["value"].message_type is not None:
            _fill(target[key], each, at)
        else:
            target[key] = _scalar(entry["value"], each, at)


def _key(field: FieldDescriptor, name: str, where: str) -> Any:
    """Keys of JSON are texts: those of numbers are written in quotes, whatever their width."""
    if field.cpp_type not in INTEGERS:
        return _scalar(field, name, where)
    if not _DIGITS.fullmatch(name):
        _fail("the key must be a whole number", where)
    return _in_range(field, int(name), where)


def _scalars(field: FieldDescriptor, items: list[object], where: str) -> Iterable[Any]:
    if field.cpp_type in INTEGERS and set(map(type, items)) == {int}:
        # The road of token ids, of which there may be a million.
        low, high = INTEGERS[field.cpp_type]
        numbers: list[int] = items  # type: ignore[assignment]
        if min(numbers) >= low and max(numbers) <= high:
            return numbers
    return [_scalar(field, each, f"{where}[{index}]") for index, each in enumerate(items)]


def _scalar(field: FieldDescriptor, item: object, where: str) -> Any:
    kind = field.cpp_type
    if kind in INTEGERS:
        return _in_range(field, _whole(item, where, quoted=kind in WIDE), where)
    if kind in FLOATS:
        return _number(item, where)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        if not isinstance(item, bool):
            _fail("must be true or false", where)
        return item
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return _enum(field, item, where)
    if not isinstance(item, str):
        _fail("must be a text", where)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _bytes(item, where)
    return item


def _whole(item: object, where: str, *, quoted: bool) -> int:
    if isinstance(item, int) and not isinstance(item, bool):
        return item
    if isinstance(item, float) and item.is_integer():
        return int(item)
    if quoted and isinstance(item, str) and _DIGITS.fullmatch(item):
        return int(item)
    return _fail("must be a whole number", where)


def _in_range(field: FieldDescriptor, number: int, where: str) -> int:
    low, high = INTEGERS[field.cpp_type]
    if not low <= number <= high:
        _fail(f"{number} is outside {low} to {high}", where, Reason.FIELD_OUT_OF_RANGE)
    return number


def _number(item: object, where: str) -> float:
    if isinstance(item, str) and item in _NOT_FINITE:
        return float(item)  # the cluster says what it thinks of it, as it does to gRPC
    if isinstance(item, bool) or not isinstance(item, int | float):
        _fail("must be a number", where)
    return float(item)


def _enum(field: FieldDescriptor, item: object, where: str) -> int:
    assert field.enum_type is not None  # noqa: S101 - as its kind says
    values = field.enum_type.values_by_name
    if isinstance(item, str):
        if item not in values:
            _fail(f"unknown name; there are {', '.join(values)}", where)
        return int(values[item].number)
    number = _whole(item, where, quoted=False)
    low, high = INTEGERS[FieldDescriptor.CPPTYPE_INT32]
    if not low <= number <= high:
        _fail(f"unknown number; there are {', '.join(values)}", where)
    return number


def _bytes(item: str, where: str) -> bytes:
    text = item.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return _fail("must be base64", where)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _fail(what: str, path: str, reason: Reason = Reason.FIELD_MALFORMED) -> NoReturn:
    raise InvalidRequest(f"{path or 'the message'}: {what}", reason=reason, field=path or None)
