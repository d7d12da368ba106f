"""Finds stop strings in text that arrives in pieces. No I/O; nothing but strings in and out.

A match may begin in one token and end several tokens later, so text that could still turn out to be the start of a stop
string is held back:

    stop "</s>"     pushed            "Hi <"   "/s"   " no"         or   "Hi <"   "/s>"
                    free afterwards   Hi_      Hi_    Hi_</s_no          Hi_      match at 3

The answer never depends on how the text is cut: the match that **completes** first wins, and among those that
complete at the same character the one that began first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

__all__ = ["StopMatch", "StopMatcher", "StopStrings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopMatch:
    """A stop string was completed."""

    string: str
    start: int
    """Where it begins, characters from the start of the completion; the answer ends there."""


@final
class _Needle:
    """One stop string with its border table (Knuth, Morris, Pratt); shared by all choices of a request."""

    __slots__ = ("_borders", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._borders = [0] * (len(text) + 1)
        matched = 0
        for index in range(1, len(text)):
            matched = self._extend(matched, text[index])
            self._borders[index + 1] = matched

    def advance(self, matched: int, character: str) -> int:
        """Length of the longest start of the needle that ends at `character`; `matched`, below the full length, is
        the one before it.
        """
        return self._extend(matched, character)

    def border(self, matched: int) -> int:
        """Length of the longest proper start of the needle that is also an end of its first `matched` characters."""
        return self._borders[matched]

    def _extend(self, matched: int, character: str) -> int:
        while matched and self.text[matched] != character:
            matched = self._borders[matched]
        return matched + 1 if self.text[matched] == character else 0


@final
class StopStrings:
    """The stop strings of one request, prepared once: O(total length)."""

    def __init__(self, strings: Sequence[str]) -> None:
        """`strings`: none of them empty; duplicates do no harm."""
        # Longest first, so that of several matches at one character the first found began first.
        self._needles = tuple(
            _Needle(text) for text in sorted(dict.fromkeys(strings), key=len, reverse=True)
        )

    def new_matcher(self) -> StopMatcher:
        """A matcher for one choice."""
        return StopMatcher(self._needles)


@final
class StopMatcher:
    """Follows the text of one choice. Each character costs amortised constant time per stop string."""

    def __init__(self, needles: Sequence[_Needle]) -> None:
        self._needles = needles
        self._matched = [0] * len(needles)
        self._length = 0

    @property
    def num_free(self) -> int:
        """Characters of the completion so far that no match can reach any more."""
        return self._length - max(self._matched, default=0)

    def push(self, text: str, *, armed: bool = True) -> StopMatch | None:
        """Takes the next piece and says whether it completes a stop string.

        With `armed` false a stop string that ends in this piece is passed over (`min_tokens` is not reached).
        After a match the matcher is spent.
        """
        if not self._needles:
            self._length += len(text)
            return None
        for character in text:
            self._length += 1
            for index, needle in enumerate(self._needles):
                matched = needle.advance(self._matched[index], character)
                if matched == len(needle.text):
                    if armed:
                        return StopMatch(string=needle.text, start=self._length - matched)
                    matched = needle.border(matched)
                self._matched[index] = matched
        return None
