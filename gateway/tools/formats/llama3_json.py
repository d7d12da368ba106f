"""The format of Llama 3: at the beginning of an answer, sometimes behind a word.

{"name": "add", "parameters": {"a": 1}}; {"name": …}
<|python_tag|>{"name": "add", "parameters": {"a": 1}}
"""

from __future__ import annotations

from typing import Final

from gateway.tools.calls import CallReader
from gateway.tools.format import Format
from gateway.tools.reader import Reading

__all__ = ["LLAMA3_JSON"]

_WORD: Final = "<|python_tag|>"
_SEPARATORS: Final = frozenset(";,")


class _Reader(CallReader):
    def answer(self) -> Reading[None]:
        held = yield from self.spaces()
        for expected in _WORD:
            char = yield
            if char != expected:
                self.give_back(char)
                break
            held += char
        if held.strip() == _WORD:
            held += yield from self.spaces()
        elif held.strip():
            self.out.text(held)
            return
        while (yield from self._is_call(held)):
            held = yield from self.spaces()
            separator = yield
            if separator in _SEPARATORS:
                held += separator + (yield from self.spaces())
            else:
                self.give_back(separator)

    def _is_call(self, held: str) -> Reading[bool]:
        first = yield
        self.give_back(first)
        if first == "{":
            return (yield from self.call(held))
        if first or not self.num_calls:  # white space and separators behind calls are no text
            self.out.text(held)
        return False


LLAMA3_JSON: Final = Format(
    name="llama3_json", reader=_Reader, arguments_key="parameters", between="; "
)
