"""Which kinds of fields JSON treats alike."""

from __future__ import annotations

from typing import Final

from google.protobuf.descriptor import FieldDescriptor

__all__ = ["FLOATS", "INTEGERS", "WIDE", "is_map"]

INTEGERS: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}
"""Kind → lowest and highest value."""

WIDE: Final = frozenset({FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64})
"""Written in quotes, since JavaScript's numbers cannot hold them."""

FLOATS: Final = frozenset({FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE})


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a `map<…>`: JSON writes an object, protobuf repeated pairs."""
    entry = field.message_type
    return entry is not None and entry.GetOptions().map_entry
