"""Formats of a word and a list of all calls behind it."""

from __future__ import annotations

from typing import final

from gateway.tools.calls import CallReader
from gateway.tools.emitter import Emitter
from gateway.tools.reader import Reading

__all__ = ["MarkedListReader"]


@final
class MarkedListReader(CallReader):
    """word [{"name": …, "arguments": {…}}, …], between texts."""

    def __init__(self, out: Emitter, *, word: str) -> None:
        self._word = word
        super().__init__(out)

    def answer(self) -> Reading[None]:
        while (begin := (yield from self.until(self._word))) is not None:
            begin += yield from self.spaces()
            yield from self.calls(begin)
