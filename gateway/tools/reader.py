"""What the readers of all formats have in common: one character at a time, and words that begin and end things.

A reader is a generator that is sent characters, and "" at the end. A character that it cannot use it gives back, for
whoever reads on. So time is linear, and it does not matter how the text was cut.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import Final, TypeVar

from gateway.tools.api import Piece
from gateway.tools.emitter import Emitter
from gateway.tools.json_scan import SPACE

__all__ = ["END", "Reader", "Reading"]

END: Final = ""
"""Sent after the last character."""
_SPACE_MAX: Final = 64
"""White space in front of a call is left out, up to that many characters."""

ResultT = TypeVar("ResultT")
Reading = Generator[None, str, ResultT]


class Reader(ABC):
    """Implements `gateway.tools.api.OutputParser`; formats say what an answer is (`answer`)."""

    def __init__(self, out: Emitter) -> None:
        self.out = out
        self._back = ""
        self._is_done = False
        self._reading = self._whole()
        next(self._reading)

    @property
    def num_calls(self) -> int:
        return self.out.num_calls

    def feed(self, text: str) -> list[Piece]:
        send = self._reading.send
        for char in text:
            send(char)
            while self._back:
                back, self._back = self._back, ""
                send(back)
        return self.out.take()

    def finish(self) -> list[Piece]:
        while not self._is_done:
            self._reading.send(END)
        return self.out.take()

    @abstractmethod
    def answer(self) -> Reading[None]:
        """Reads the whole answer. It may return before the end: the rest is text."""
        ...

    def give_back(self, char: str) -> None:
        """For whoever reads next; the end comes again by itself."""
        self._back = char

    def until(self, word: str, held: str = "") -> Reading[str | None]:
        """Text up to `word`, whose first character comes only there. Returns the word with the white space before it,
        which may be no text; None at the end. `held` was read before: white space, perhaps the beginning of `word`.
        """
        first, size = word[0], len(word)
        at = len(held.lstrip())
        space = held[: len(held) - at]
        while (char := (yield)) != END:
            if char == word[at]:
                at += 1
                if at == size:
                    return space + word
                continue
            if at:
                self.out.text(space + word[:at])
                space, at = "", 0
                if char == first:
                    at = 1
                    continue
            if char in SPACE and len(space) < _SPACE_MAX:
                space += char
            else:
                self.out.text(space + char)
                space = ""
        if at or not self.num_calls:
            self.out.text(space + word[:at])
        return None

    def spaces(self) -> Reading[str]:
        """White space; gives back what comes after it."""
        space = ""
        while (char := (yield)) in SPACE and len(space) < _SPACE_MAX:
            space += char
        self.give_back(char)
        return space

    def skip(self, word: str, then: str) -> Reading[str]:
        """White space and `word`, if they are there. Else returns what may belong to the word `then`; other text is
        text.
        """
        found = yield from self.spaces()
        for at, expected in enumerate(word):
            char = yield
            if char != expected:
                self.give_back(char)
                if then.startswith(word[:at]):
                    return found + word[:at]
                self.out.text(found + word[:at])
                return ""
        return ""

    def rest(self) -> Reading[None]:
        """Text to the end; white space behind calls is none."""
        space = ""
        while (char := (yield)) != END:
            if char in SPACE and len(space) < _SPACE_MAX:
                space += char
            else:
                self.out.text(space + char)
                space = ""
        if not self.num_calls:
            self.out.text(space)

    def _whole(self) -> Reading[None]:
        yield from self.answer()
        yield from self.rest()
        self._is_done = True
        yield
