"""Models that think aloud begin their answer with <think> and stop with </think>: what lies between is no answer."""

from __future__ import annotations

from typing import Final, final

from gateway.tools.api import OutputParser, Piece, ReasoningDelta

__all__ = ["ReasoningReader"]

_BEGIN: Final = "<think>"
_END: Final = "</think>"
_SPACE: Final = " \t\r\n"
_HELD_MAX: Final = 256
"""Most characters that may come before the first word."""


@final
class ReasoningReader:
    """Implements `gateway.tools.api.OutputParser` in front of another one, which reads what follows the thoughts.

    Only an answer that begins with <think> has any: a model whose prompt opened it already cannot be told from others.
    White space before and behind the words is left out.
    """

    def __init__(self, inner: OutputParser) -> None:
        self._inner = inner
        self._state = "before"
        """before, thinking, behind (white space), answering."""
        self._held = ""

    @property
    def num_calls(self) -> int:
        return self._inner.num_calls

    def feed(self, text: str) -> list[Piece]:
        if self._state == "answering":
            return self._inner.feed(text)
        pieces: list[Piece] = []
        self._held += text
        if self._state == "before":
            begun = self._held.lstrip(_SPACE)
            if begun.startswith(_BEGIN):
                self._state, self._held = "thinking", begun[len(_BEGIN) :]
            elif not _BEGIN.startswith(begun) or len(self._held) > _HELD_MAX:
                return self._answer(self._held)
        if self._state == "thinking":
            thought, end, behind = self._held.partition(_END)
            if end:
                self._state, self._held = "behind", behind
            else:
                keep = _beginning_at_end(thought)
                self._held = thought[len(thought) - keep :]
                thought = thought[: len(thought) - keep]
            if thought:
                pieces.append(ReasoningDelta(thought))
        if self._state == "behind":
            self._held = self._held.lstrip(_SPACE)
            if self._held:
                pieces += self._answer(self._held)
        return pieces

    def finish(self) -> list[Piece]:
        pieces: list[Piece] = []
        if self._state == "thinking" and self._held:
            pieces.append(ReasoningDelta(self._held))
        elif self._state == "before":
            pieces += self._inner.feed(self._held)
        return pieces + self._inner.finish()

    def _answer(self, text: str) -> list[Piece]:
        self._state, self._held = "answering", ""
        return self._inner.feed(text)


def _beginning_at_end(text: str) -> int:
    """How many characters at the end of `text` may begin the last word."""
    return next(
        (
            size
            for size in range(min(len(_END) - 1, len(text)), 0, -1)
            if text.endswith(_END[:size])
        ),
        0,
    )
