"""Token ids → text, one token at a time, without ever cutting a character in two.

    ids of "née":   "n"     0xC3   0xA9   "e"   (end)
    push gives:     "n"     ""     "é"    "e"
    flush gives:                                ""

Bytes that are not UTF-8 become U+FFFD, one per broken sequence, as when the whole is decoded at once. No I/O and no
state but the unfinished character: pushing the same ids again rebuilds it.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence as SequenceOf
from typing import Final

__all__ = ["Detokenizer"]

_NewDecoder: Final = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """One choice's way from ids to text. The pieces joined are what `Tokenizer.decode` says of all ids."""

    def __init__(self, token_bytes: SequenceOf[bytes], *, strip_first_space: bool = False) -> None:
        """`token_bytes[id]` is what a token prints: nothing for control tokens.

        `strip_first_space`: the text begins with a space that the tokenizer put there (SentencePiece).
        """
        self._token_bytes = token_bytes
        self._decoder = _NewDecoder("replace")
        self._strip = strip_first_space

    @property
    def is_inside_character(self) -> bool:
        """Whether the last bytes are the beginning of a character that the next token may complete."""
        return bool(self._decoder.getstate()[0])

    def push(self, token_id: int) -> str:
        """The text that became complete with this token; an id that is not in the vocabulary prints nothing."""
        known = 0 <= token_id < len(self._token_bytes)
        return self._out(self._decoder.decode(self._token_bytes[token_id] if known else b""))

    def flush(self) -> str:
        """What is left at the end: an incomplete character as U+FFFD, else nothing. Starts anew after it."""
        return self._out(self._decoder.decode(b"", final=True))

    def _out(self, text: str) -> str:
        if self._strip and text:
            self._strip = False
            return text.removeprefix(" ")
        return text
