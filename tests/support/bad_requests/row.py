"""One bad request, as data: one fault, in the words of each dialect.

    row("B02", "n is 0", RANGE, proto=({"sampling": {"n": 0}}, "sampling.n"), rest=({"n": 0}, "n"))

A dialect gets what is sent and the field that its answer must name. A dialect that a row leaves out cannot say it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from common.errors import InvalidRequest, LeptonError

__all__ = [
    "CONTRADICT",
    "EMPTY",
    "FINITE",
    "LARGE",
    "MALFORMED",
    "RANGE",
    "TOKEN",
    "Row",
    "Said",
    "row",
]

RANGE, FINITE, LARGE = "FIELD_OUT_OF_RANGE", "FIELD_NOT_FINITE", "FIELD_TOO_LARGE"
MALFORMED, EMPTY, CONTRADICT = "FIELD_MALFORMED", "PROMPT_EMPTY", "FIELDS_CONTRADICT"
TOKEN = "TOKEN_ID_OUT_OF_RANGE"

Said = tuple[Mapping[str, Any], str | None]
"""What is sent, and the field that the answer names."""

_PROTO: Final = ("gRPC", "WebSocket")
_CHAT: Final = ("chat", "chat, streamed")
_TEXT: Final = ("completions", "completions, streamed")
_INPUTS: Final = {"text", "chat", "token_ids"}


@dataclass(frozen=True, slots=True)
class Row:
    """See the module."""

    id: str
    about: str
    error: type[LeptonError]
    reason: str
    says: Mapping[str, Said]
    """By door of `tests.support.doors`."""


def row(
    id_: str,
    about: str,
    reason: str,
    error: type[LeptonError] = InvalidRequest,
    *,
    proto: Said | None = None,
    websocket: Said | None = None,
    rest: Said | None = None,
    chat: Said | None = None,
    text: Said | None = None,
    kserve: Said | None = None,
    kserve_http: Said | None = None,
    kserve_grpc: Said | None = None,
) -> Row:
    """A row from what each group of doors is told."""
    says: dict[str, Said] = {}
    for said, doors in (
        (proto, _PROTO),
        (websocket, ("WebSocket",)),
        (rest, (*_CHAT, *_TEXT)),
        (chat, _CHAT),
        (text, _TEXT),
        (kserve, ("KServe", "KServe, gRPC")),
        (kserve_http, ("KServe",)),
        (kserve_grpc, ("KServe, gRPC",)),
    ):
        if said is None:
            continue
        sent, field = said
        for door in doors:
            lacks_input = door in _PROTO and not _INPUTS & set(sent)
            says[door] = ({"text": "hello", **sent} if lacks_input else sent, field)
    return Row(id_, about, error, reason, says)
