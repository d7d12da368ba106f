"""Is this JSON, and where does it end? One character at a time, in bounded memory."""

from __future__ import annotations

from typing import Final, final

__all__ = ["DEPTH_MAX", "NUMBER", "NUMBER_ENDS", "SPACE", "JsonScanner"]

DEPTH_MAX: Final = 64
"""Deeper values are none; as deep as the validator allows (`limits.json_depth_max`) when they come back."""

SPACE: Final = frozenset(" \t\r\n")
_DIGITS: Final = frozenset("0123456789")
_HEX: Final = frozenset("0123456789abcdefABCDEF")
_ESCAPES: Final = frozenset('"\\/bfnrt')
_LITERALS: Final = {"t": "rue", "f": "alse", "n": "ull"}

NUMBER: Final[dict[str, dict[str, str]]] = {
    "start": {"-": "minus", "0": "zero"} | dict.fromkeys("123456789", "int"),
    "minus": {"0": "zero"} | dict.fromkeys("123456789", "int"),
    "zero": {".": "point", "e": "e", "E": "e"},
    "int": dict.fromkeys(_DIGITS, "int") | {".": "point", "e": "e", "E": "e"},
    "point": dict.fromkeys(_DIGITS, "fraction"),
    "fraction": dict.fromkeys(_DIGITS, "fraction") | {"e": "e", "E": "e"},
    "e": dict.fromkeys(_DIGITS, "exponent") | {"+": "sign", "-": "sign"},
    "sign": dict.fromkeys(_DIGITS, "exponent"),
    "exponent": dict.fromkeys(_DIGITS, "exponent"),
}
"""State → character → state."""
NUMBER_ENDS: Final = frozenset({"zero", "int", "fraction", "exponent"})
"""States in which a number may end."""


@final
class JsonScanner:
    """Follows one JSON object or array from its first bracket on."""

    __slots__ = ("_rest", "_stack", "_state")

    def __init__(self) -> None:
        self._stack: list[str] = []
        self._state = "value"
        """value, item (or end), key, first key (or end), colon, after (a value), string, name (the string of a key),
        escape, hex, each of a string or name, number, literal, done."""
        self._rest = ""
        """Of a literal; in a number its state, in \\u the digits to come."""

    @property
    def is_done(self) -> bool:
        """Whether the last bracket was closed."""
        return self._state == "done"

    def take(self, char: str) -> bool:
        """Whether the text is still the beginning of a JSON value with this character; when not, it is of no use."""
        match self._state:
            case "string" | "name":
                return self._in_string(char)
            case "value" | "item":
                return self._value(char)
            case "after":
                return self._after(char)
            case "key" | "first key":
                return self._key(char)
            case "colon":
                if char == ":":
                    self._state = "value"
                    return True
                return char in SPACE
            case "number":
                return self._number(char)
            case "literal":
                return self._literal(char)
            case "escape" | "name escape":
                return self._escape(char)
            case "hex" | "name hex":
                return self._hex(char)
            case _:
                return False

    def _value(self, char: str) -> bool:
        if char == "{" or char == "[":
            if len(self._stack) == DEPTH_MAX:
                return False
            self._stack.append(char)
            self._state = "first key" if char == "{" else "item"
        elif char == '"':
            self._state = "string"
        elif char == "]" and self._state == "item":
            return self._close("[")
        elif char in _LITERALS:
            self._state, self._rest = "literal", _LITERALS[char]
        elif (number := NUMBER["start"].get(char)) is not None:
            self._state, self._rest = "number", number
        else:
            return char in SPACE
        # A bare value is none here: what is looked for begins with a bracket.
        return bool(self._stack)

    def _after(self, char: str) -> bool:
        if char == ",":
            self._state = "key" if self._stack[-1] == "{" else "value"
            return True
        if char == "}":
            return self._close("{")
        if char == "]":
            return self._close("[")
        return char in SPACE

    def _close(self, bracket: str) -> bool:
        if self._stack.pop() != bracket:
            return False
        self._state = "after" if self._stack else "done"
        return True

    def _key(self, char: str) -> bool:
        if char == '"':
            self._state = "name"
            return True
        if char == "}" and self._state == "first key":
            return self._close("{")
        return char in SPACE

    def _in_string(self, char: str) -> bool:
        if char == '"':
            self._state = "colon" if self._state == "name" else "after"
        elif char == "\\":
            self._state = "name escape" if self._state == "name" else "escape"
        else:
            return char >= " "
        return True

    def _escape(self, char: str) -> bool:
        is_name = self._state == "name escape"
        if char == "u":
            self._state, self._rest = "name hex" if is_name else "hex", "...."
            return True
        self._state = "name" if is_name else "string"
        return char in _ESCAPES

    def _hex(self, char: str) -> bool:
        self._rest = self._rest[1:]
        if not self._rest:
            self._state = "name" if self._state == "name hex" else "string"
        return char in _HEX

    def _number(self, char: str) -> bool:
        following = NUMBER[self._rest].get(char)
        if following is not None:
            self._rest = following
            return True
        if self._rest not in NUMBER_ENDS:
            return False
        self._state = "after"
        return self._after(char)

    def _literal(self, char: str) -> bool:
        if char != self._rest[0]:
            return False
        self._rest = self._rest[1:]
        if not self._rest:
            self._state = "after"
        return True
