"""The format of Mistral.

[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}, …]
"""

from __future__ import annotations

from functools import partial
from typing import Final

from gateway.tools.emitter import digest
from gateway.tools.format import Format
from gateway.tools.marked_list import MarkedListReader

__all__ = ["MISTRAL"]

_WORD: Final = "[TOOL_CALLS]"
_ID_CHARS: Final = 9


def _id_of(seed: str, index: int) -> str:
    """Mistral's templates refuse ids of another length."""
    return digest(seed, index)[:_ID_CHARS]


MISTRAL: Final = Format(
    name="mistral",
    reader=partial(MarkedListReader, word=_WORD),
    marker=_WORD,
    before="[",
    between=", ",
    after="]",
    id_of=_id_of,
)
