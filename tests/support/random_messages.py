"""Messages of any type, at random: what protobuf can hold, not what makes sense."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

__all__ = ["messages"]

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, (1 << 64) - 1),
}
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@st.composite
def messages(draw: st.DrawFn, cls: type[Message]) -> Any:
    """A message of type `cls`, with some of its fields."""
    message = cls()
    _fill(draw, message)
    return message


def _fill(draw: st.DrawFn, message: Message) -> None:
    known = list(message.DESCRIPTOR.fields)
    fields = draw(st.lists(st.sampled_from(known), max_size=4, unique=True)) if known else []
    for field in fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
            target = getattr(message, field.name)
            for each in draw(st.lists(_scalar(key), max_size=3)):
                target[each] = draw(_scalar(value))
        elif field.is_repeated:
            target = getattr(message, field.name)
            for _ in range(draw(st.integers(0, 3))):
                if field.message_type is not None:
                    _fill(draw, target.add())
                else:
                    target.append(draw(_scalar(field)))
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            _fill(draw, getattr(message, field.name))
        else:
            setattr(message, field.name, draw(_scalar(field)))


def _scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.cpp_type in _INTEGERS:
        return _INTEGERS[field.cpp_type]
    if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT:
        return st.floats(allow_nan=False, allow_infinity=False, width=32)
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return st.floats(allow_nan=False, allow_infinity=False)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        assert field.enum_type is not None
        return st.sampled_from([value.number for value in field.enum_type.values])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=8)
    return _TEXT
