"""Text that comes in pieces, broken between words and indented. Sans-I/O: pieces in, what to write out."""

from __future__ import annotations

from typing import Final, final

__all__ = ["WordWrap"]

_WORD_MAX: Final = 32
"""A word that is longer is no word (or a script without spaces); it is not held back."""


@final
class WordWrap:
    """Breaks at `width` columns. A word is held back until it is whole, since it may not fit on the line."""

    def __init__(self, *, width: int, indent: str = "") -> None:
        self._indent = indent
        self._room = max(1, width - len(indent))
        self._column = 0  # without the indent
        self._gap = ""  # spaces that are written only if a word follows on the same line
        self._word = ""
        self._fresh = True  # nothing is on this line yet

    def push(self, text: str) -> str:
        """What can be written now."""
        ready: list[str] = []
        for character in text:
            if character == "\n":
                ready.append(self._flush())
                ready.append("\n")
                self._fresh, self._column, self._gap = True, 0, ""
            elif character == " ":
                ready.append(self._flush())
                self._gap += character
            else:
                self._word += character
                if len(self._word) >= _WORD_MAX:
                    ready.append(self._flush())
        return "".join(ready)

    def end(self) -> str:
        """The rest."""
        return self._flush()

    def _flush(self) -> str:
        word, self._word = self._word, ""
        if not word:
            return ""
        lead = self._indent if self._fresh else ""
        if self._fresh or self._column + len(self._gap) + len(word) <= self._room:
            lead += self._gap
            self._column += len(self._gap) + len(word)
        else:
            lead = "\n" + self._indent
            self._column = len(word)
        self._fresh, self._gap = False, ""
        return lead + word
