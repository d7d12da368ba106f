"""The format of Llama 3.2 and 4, at the beginning of an answer.

    [add(a=1, b='two'), now()]

Values are literals of Python; they come out as JSON. Grammars force JSON in its place.
"""

from __future__ import annotations

import json
from typing import Final, final

from gateway.tools.format import Format
from gateway.tools.json_scan import SPACE
from gateway.tools.python_scan import PythonScanner
from gateway.tools.reader import END, Reader, Reading

__all__ = ["PYTHONIC"]

_NAME_MAX: Final = 64
_NAME_CHARS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


@final
class _Reader(Reader):
    def answer(self) -> Reading[None]:
        held = yield from self.spaces()
        char = yield
        if char != "[":
            self.out.text(held)
            self.give_back(char)
            return
        held += char
        while True:
            held += yield from self.spaces()
            if not (yield from self._call(held)):
                return
            held = yield from self.spaces()
            char = yield
            if char == "]":
                return
            if char != ",":
                self.out.text(held)
                self.give_back(char)
                return
            held = char

    def _call(self, held: str) -> Reading[bool]:
        name, end = yield from self._name()
        if end != "(" or name not in self.out.names:
            self.out.text(held + name)
            self.give_back(end)
            return False
        self.out.begin(name)
        self.out.arguments("{")
        comma = ""
        while True:
            yield from self.spaces()
            key, end = yield from self._name()
            if end == ")" and not key:
                self.out.arguments("}")
                self.out.end(is_whole=True)
                return True
            if end != "=" or not key:
                return self._broken(end)
            self.out.arguments(f"{comma}{json.dumps(key)}: ")
            comma = ", "
            end = yield from self._value()
            if end == ")":
                self.give_back(end)
            elif end != ",":
                return self._broken(end)

    def _name(self) -> Reading[tuple[str, str]]:
        """A name, and the character behind it."""
        name = ""
        while (char := (yield)) in _NAME_CHARS and len(name) < _NAME_MAX:
            name += char
        return name, char

    def _value(self) -> Reading[str]:
        """Hands a value on as JSON; returns the first character behind it that is no white space."""
        scanner = PythonScanner()
        char = END
        while not scanner.is_done:
            char = yield
            said = None if char == END else scanner.take(char)
            if said is None:
                return char
            self.out.arguments(said)
        if not scanner.is_over:
            char = yield
        while char in SPACE:
            char = yield
        return char

    def _broken(self, char: str) -> bool:
        self.out.end(is_whole=False)
        self.give_back(char)
        return False


PYTHONIC: Final = Format(name="pythonic", reader=_Reader, forces="json")
