"""Bytes → message, so that malformed input becomes our typed error and never a transport failure.

grpc answers a message that its own deserializer cannot read with INTERNAL. Servers of Lepton
therefore take the bytes as they are and parse them here.
"""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from common.errors import InvalidRequest, Reason

__all__ = ["parse_message"]

MessageT = TypeVar("MessageT", bound=Message)


def parse_message(cls: type[MessageT], payload: bytes) -> MessageT:
    """The message in `payload`.

    Raises `InvalidRequest(MALFORMED_MESSAGE)` when the bytes are not one: truncated, random, invalid UTF-8 in a string.
    """
    try:
        return cls.FromString(payload)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(
            f"the request is not a valid {cls.DESCRIPTOR.full_name}: {_first_line(error)}; "
            "strings must be UTF-8",
            reason=Reason.MALFORMED_MESSAGE,
        ) from error


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
