"""The format of Granite 3.

<|tool_call|>[{"name": "add", "arguments": {"a": 1}}, …]
"""

from __future__ import annotations

from functools import partial
from typing import Final

from gateway.tools.format import Format
from gateway.tools.marked_list import MarkedListReader

__all__ = ["GRANITE"]

_WORD: Final = "<|tool_call|>"

GRANITE: Final = Format(
    name="granite",
    reader=partial(MarkedListReader, word=_WORD),
    marker=_WORD,
    before="[",
    between=", ",
    after="]",
)
