"""Who calls, as far as the call says so."""

from __future__ import annotations

import re
from typing import Any, Final

from common.errors import InvalidRequest, Reason
from common.rpc.metadata import CALLER_KEY

__all__ = ["caller_of"]

_CALLER: Final = re.compile(r"[!-~]{0,128}")


def caller_of(context: Any) -> str:
    """The value of `lepton-caller`, the first one when there are several; "" for a call without it.

    Raises `InvalidRequest(FIELD_MALFORMED)` for a value that is longer than 128 characters or has others than printable
    ASCII ones without spaces.
    """
    for key, value in context.invocation_metadata() or ():
        if key == CALLER_KEY:
            if not isinstance(value, str) or not _CALLER.fullmatch(value):
                raise InvalidRequest(
                    f"metadata {CALLER_KEY} must be at most 128 printable ASCII characters without spaces",
                    reason=Reason.FIELD_MALFORMED,
                    field=CALLER_KEY,
                )
            return value
    return ""
