"""Where in a stream a client is: the `id:` of an event, and `last-event-id` when it comes back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from common.errors import InvalidRequest, Reason
from common.request.request_id import is_request_id

__all__ = ["Place", "place_of"]

_FORM: Final = re.compile(r"(\d{1,18})/([!-.0-~]{1,1024})/([!-.0-~]{1,128})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The last event that a client has."""

    seq: int
    token: str
    """Resume token of the call."""
    request_id: str
    """Of the first request: chunks go on with the id that they had."""

    def __str__(self) -> str:
        return f"{self.seq}/{self.token}/{self.request_id}"


def place_of(header: str) -> Place | None:
    """Reads `last-event-id`; None when there is none. Raises `InvalidRequest(FIELD_MALFORMED)`."""
    if not header:
        return None
    found = _FORM.fullmatch(header)
    if found is None or not is_request_id(found[3]):
        raise InvalidRequest(
            "last-event-id is the id of an event of a resumable stream, as it came",
            reason=Reason.FIELD_MALFORMED,
            field="last-event-id",
        )
    return Place(seq=int(found[1]), token=found[2], request_id=found[3])
