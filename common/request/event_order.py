"""Where a `GenerateResponse` stands in its stream, read from its raw bytes: a few hops over lengths per event.

    0a LEN  08 SEQ  1a LEN  … what happened …   0a LEN  08 SEQ  …
    event   seq     delta, which nobody opens   next event

That is how every writer of protobuf puts it (a `seq` of 0 is left out). Whatever looks otherwise is given to protobuf,
which is the judge of what is allowed.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError

from common.request.stream_fault import StreamFault
from lepton.v1 import inference_pb2

__all__ = ["check_seq", "seq_after"]

_EVENT: Final = 0x0A  # field 1 of GenerateResponse, length-delimited
_SEQ: Final = 0x08  # field 1 of Event, varint
_KINDS: Final = frozenset({0x12, 0x1A, 0x22, 0x2A})  # fields 2 to 5 of Event, length-delimited
_SHIFTS: Final = range(7, 63, 7)


def seq_after(message: bytes, due: int | None) -> int | None:
    """The `seq` that is due after the events of a serialised `GenerateResponse`, of which the first must be `due`
    (None: it may be any) and the others must follow without gaps.

    Raises `StreamFault`: "repeated", "gap", or "unreadable". What is inside a `Delta` is not looked at.
    """
    size, at = len(message), 0
    first = due
    try:
        while at < size:
            if message[at] != _EVENT:
                return _parsed(message, first)
            length = message[at + 1]
            at += 2
            if length > 0x7F:
                length, at = _varint(message, at - 1)
            end = at + length
            seq = 0
            if message[at] == _SEQ:
                seq = message[at + 1]
                at += 2
                if seq > 0x7F:
                    seq, at = _varint(message, at - 1)
            if message[at] not in _KINDS:
                return _parsed(message, first)
            length = message[at + 1]
            at += 2
            if length > 0x7F:
                length, at = _varint(message, at - 1)
            at += length
            if at != end:
                return _parsed(message, first)
            if seq != due:
                check_seq(seq, due)
            due = seq + 1
    except IndexError:
        return _parsed(message, first)
    return due if at == size else _parsed(message, first)


def check_seq(seq: int, due: int | None) -> None:
    """Returns when an event with this `seq` is the one that is due (None: it may be any); raises `StreamFault`."""
    if due is not None and seq != due:
        kind = "repeated" if seq < due else "gap"
        raise StreamFault(kind, f"event {seq} came where {due} was due")


def _parsed(message: bytes, due: int | None) -> int | None:
    try:
        response = inference_pb2.GenerateResponse.FromString(message)
    except DecodeError as error:
        raise StreamFault("unreadable", "a message is no GenerateResponse") from error
    for event in response.events:
        check_seq(event.seq, due)
        due = event.seq + 1
    return due


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends). Raises `IndexError` where none of at most nine bytes is."""
    value = message[at] & 0x7F
    for shift in _SHIFTS:
        at += 1
        byte = message[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
    raise IndexError(at)
