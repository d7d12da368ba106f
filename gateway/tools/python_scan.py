"""A literal of Python → JSON, one character at a time: 'it is', True, (1, None), {'a': [2.5]}."""

from __future__ import annotations

import json
from typing import Final, final

from gateway.tools.json_scan import DEPTH_MAX, NUMBER, NUMBER_ENDS, SPACE

__all__ = ["PythonScanner"]

_CLOSES: Final = {"[": "]", "(": ")", "{": "}"}
_ESCAPED: Final = {
    "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "0": "\0", "\\": "\\", "'": "'",
    '"': '"', "\n": "",
}  # fmt: skip
_HEX_DIGITS: Final = {"x": 2, "u": 4, "U": 8}
_WORDS: Final = {
    "True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null",
}  # fmt: skip
_WORD_MAX: Final = 5
_LETTERS: Final = frozenset("".join(_WORDS))


@final
class PythonScanner:
    """Follows one value. A number or a word ends with the character behind it, which is not part of it: `is_over`."""

    def __init__(self) -> None:
        self._stack: list[str] = []
        self._state = "value"
        """value, item (or end), key (or end), colon, after (a value), string, key string, escape, hex, number, word,
        done."""
        self._rest = ""
        """Of a string its quote, of a number its state, of a word its letters."""
        self._quote = ""
        self._comma = ""
        """To be written before the next value: Python allows a comma before a closing bracket, JSON does not."""
        self._of = "string"
        """What an escape belongs to."""
        self._digits = 0
        self.is_done = False
        """Whether the value is whole."""
        self.is_over = False
        """Whether it was so before the character that was taken last."""

    def take(self, char: str) -> str | None:
        """The JSON that became certain, perhaps none; None where this is no literal that JSON knows."""
        match self._state:
            case "string" | "key string":
                return self._in_string(char)
            case "escape":
                return self._escape(char)
            case "hex":
                return self._hex(char)
            case "value" | "item":
                return self._value(char)
            case "key":
                return self._key(char)
            case "colon":
                if char == ":":
                    self._state = "value"
                    return ": "
                return "" if char in SPACE else None
            case "number":
                return self._number(char)
            case "word":
                return self._word(char)
            case "after":
                return self._after(char)
            case _:
                return None

    def _value(self, char: str) -> str | None:
        if char in SPACE:
            return ""
        if self._state == "item" and char == _CLOSES[self._stack[-1]]:
            return self._close()
        if char in _CLOSES:
            if len(self._stack) == DEPTH_MAX:
                return None
            self._stack.append(char)
            self._state = "key" if char == "{" else "item"
            return self._behind_comma("{" if char == "{" else "[")
        if char == "'" or char == '"':
            self._state, self._quote = "string", char
            return self._behind_comma('"')
        if (number := NUMBER["start"].get(char)) is not None:
            self._state, self._rest = "number", number
            return self._behind_comma(char)
        if char in _LETTERS:
            self._state, self._rest = "word", char
            return self._behind_comma("")
        return None

    def _key(self, char: str) -> str | None:
        if char in SPACE:
            return ""
        if char == "'" or char == '"':
            self._state, self._quote = "key string", char
            return self._behind_comma('"')
        return self._close() if char == "}" else None

    def _behind_comma(self, said: str) -> str:
        comma, self._comma = self._comma, ""
        return comma + said

    def _after(self, char: str) -> str | None:
        if char in SPACE:
            return ""
        if char == ",":
            self._state = "key" if self._stack[-1] == "{" else "item"
            self._comma = ", "
            return ""
        return self._close() if char == _CLOSES[self._stack[-1]] else None

    def _close(self) -> str:
        self._comma = ""
        bracket = self._stack.pop()
        self._end()
        return "}" if bracket == "{" else "]"

    def _end(self) -> None:
        self._state = "after" if self._stack else "done"
        self.is_done = not self._stack

    def _in_string(self, char: str) -> str | None:
        if char == self._quote:
            if self._state == "string":
                self._end()
            else:
                self._state = "colon"
            return '"'
        if char == "\\":
            self._of, self._state = self._state, "escape"
            return ""
        return None if char == "\n" else _escaped(char)

    def _escape(self, char: str) -> str | None:
        if char in _HEX_DIGITS:
            self._state, self._digits, self._rest = "hex", _HEX_DIGITS[char], ""
            return ""
        self._state = self._of
        return _escaped(_ESCAPED.get(char, "\\" + char))  # as Python has it, unknown ones stay

    def _hex(self, char: str) -> str | None:
        if char not in "0123456789abcdefABCDEF":
            return None
        self._rest += char
        if len(self._rest) < self._digits:
            return ""
        self._state = self._of
        code = int(self._rest, 16)
        return _escaped(chr(code)) if code < 0x110000 else None

    def _number(self, char: str) -> str | None:
        following = NUMBER[self._rest].get(char)
        if following is not None:
            self._rest = following
            return char
        return self._over(char, "") if self._rest in NUMBER_ENDS else None

    def _word(self, char: str) -> str | None:
        if char in _LETTERS and len(self._rest) < _WORD_MAX:
            self._rest += char
            return ""
        word = _WORDS.get(self._rest)
        return None if word is None else self._over(char, word)

    def _over(self, char: str, said: str) -> str | None:
        """A value ended before this character."""
        self._end()
        if self.is_done:
            self.is_over = True
            return said
        more = self._after(char)
        return None if more is None else said + more


def _escaped(text: str) -> str:
    return json.dumps(text)[1:-1]
