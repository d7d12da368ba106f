"""An object, or a list of objects, and nothing before it.

    {"name": "add", "arguments": {"a": 1}}
    [{"name": "add", "arguments": {"a": 1}}, …]

Taken for models whose own format is not known, and forced where a format cannot be.
"""

from __future__ import annotations

from typing import Final

from gateway.tools.calls import CallReader
from gateway.tools.format import Format
from gateway.tools.reader import Reading

__all__ = ["JSON"]


class _Reader(CallReader):
    def answer(self) -> Reading[None]:
        held = yield from self.spaces()
        first = yield
        self.give_back(first)
        if first == "[":
            yield from self.calls(held)
        elif first == "{":
            yield from self.call(held)
        else:
            self.out.text(held)


JSON: Final = Format(name="json", reader=_Reader, before="[", between=", ", after="]")
