"""Calls that are written as JSON: {"name": …, "arguments": {…}}, alone or in a list.

Arguments are handed on while they come, so a call that breaks inside them has been told already: it ends there, and
what follows is text. One that breaks earlier is text as a whole.
"""

from __future__ import annotations

import json
from typing import Final, final

from gateway.tools.emitter import Emitter
from gateway.tools.json_scan import SPACE, JsonScanner
from gateway.tools.reader import END, Reader, Reading

__all__ = ["CallReader"]

_HELD_MAX: Final = 16_384
"""Most characters that may come before a call can be told: arguments that stand in front of its name, for example."""
_STRING_MAX: Final = 512
"""Longest key, name or id, characters."""
_ARGUMENTS: Final = frozenset({"arguments", "parameters"})
_SKIPPED: Final = frozenset({"id", "type"})
"""Keys that some models write as well; their values are strings."""


class CallReader(Reader):
    """Reads calls; formats say what stands around them."""

    def call(self, held: str) -> Reading[bool]:
        """One object. `held` was read before, and is text should this be no call. False: it was none, or it broke;
        then the character at fault is given back.
        """
        call = _Call(self.out, held)
        try:
            yield from call.read()
        except _Broken as broken:
            call.give_up()
            self.give_back(broken.char)
            return False
        return True

    def calls(self, held: str) -> Reading[bool]:
        """A list of objects, from its bracket on; otherwise as `call`."""
        bracket = yield
        if bracket != "[":
            self.out.text(held)
            self.give_back(bracket)
            return False
        held += bracket
        while True:
            held += yield from self.spaces()
            if not (yield from self.call(held)):
                return False
            held = yield from self.spaces()
            char = yield
            if char == "]":
                return True
            if char != ",":
                self.out.text(held)
                self.give_back(char)
                return False
            held = char


class _Broken(Exception):
    """What was read is no call, or no more of one."""

    def __init__(self, char: str) -> None:
        super().__init__(char)
        self.char = char
        """Which was read and belongs to whatever follows."""


@final
class _Call:
    """One object on its way."""

    def __init__(self, out: Emitter, held: str) -> None:
        self._out = out
        self._held = [held]
        self._num_held = len(held)
        self._early: str | None = None
        """Arguments that came before the name."""
        self._name: str | None = None
        self._has_begun = False
        self._has_arguments = False

    def read(self) -> Reading[None]:
        """Raises `_Broken`."""
        char = yield from self._next(frozenset("{"))
        char = yield from self._dark(frozenset('"}'))
        while char != "}":
            key = yield from self._string()
            yield from self._dark(frozenset(":"))
            yield from self._value(key)
            char = yield from self._dark(frozenset(",}"))
            if char == ",":
                char = yield from self._dark(frozenset('"'))
        if self._name is None:
            raise _Broken("")
        if not self._has_begun:
            self._begin("{}")
        self._out.end(is_whole=True)

    def give_up(self) -> None:
        """Makes the best of what came."""
        if self._has_begun:
            self._out.end(is_whole=False)
        else:
            self._out.text("".join(self._held))

    def _value(self, key: str) -> Reading[None]:
        if key == "name" and self._name is None:
            yield from self._dark(frozenset('"'))
            name = yield from self._string()
            if name not in self._out.names:
                raise _Broken("")
            self._name = name
            if self._early is not None:
                self._begin(self._early)
        elif key in _ARGUMENTS and not self._has_arguments:
            self._has_arguments = True
            yield from self._arguments()
        elif key in _SKIPPED:
            yield from self._dark(frozenset('"'))
            yield from self._string()
        else:
            raise _Broken("")

    def _arguments(self) -> Reading[None]:
        char = yield from self._dark(frozenset("{"))
        if self._name is not None:
            self._begin("")
        scanner, parts = JsonScanner(), []
        scanner.take(char)
        while True:
            if self._has_begun:
                self._out.arguments(char)
            else:
                parts.append(char)
            if scanner.is_done:
                break
            char = yield
            if char == END or not scanner.take(char):
                raise _Broken(char)
            self._hold(char)
        if not self._has_begun:
            self._early = "".join(parts)

    def _begin(self, arguments: str) -> None:
        self._has_begun = True
        self._held.clear()
        self._out.begin(self._name or "")
        self._out.arguments(arguments)

    def _string(self) -> Reading[str]:
        """The rest of a string, read."""
        raw, is_escaped = '"', False
        while True:
            char = yield
            if char == END or char < " ":
                raise _Broken(char)
            self._hold(char)
            raw += char
            if char == '"' and not is_escaped:
                break
            is_escaped = char == "\\" and not is_escaped
            if len(raw) > _STRING_MAX:
                raise _Broken("")
        try:
            return str(json.loads(raw))
        except ValueError:
            raise _Broken("") from None

    def _dark(self, wanted: frozenset[str]) -> Reading[str]:
        """The next character that is no white space; one of `wanted`."""
        char = yield from self._next(SPACE | wanted)
        while char in SPACE:
            char = yield from self._next(SPACE | wanted)
        return char

    def _next(self, wanted: frozenset[str]) -> Reading[str]:
        char = yield
        if char not in wanted:
            raise _Broken(char)
        self._hold(char)
        return char

    def _hold(self, char: str) -> None:
        if self._has_begun:
            return
        if self._num_held >= _HELD_MAX:
            raise _Broken(char)
        self._held.append(char)
        self._num_held += 1
