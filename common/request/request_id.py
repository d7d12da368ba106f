"""What a request id looks like, wherever it comes from: it goes into logs, traces and metadata as it is."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["is_request_id"]

_PATTERN: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def is_request_id(text: str) -> bool:
    """Whether `text` may be one: 1 to 128 characters, each a letter, a digit or one of . _ : - (ASCII)."""
    return _PATTERN.fullmatch(text) is not None
