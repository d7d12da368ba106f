"""The format of Hermes, Qwen and SmolLM3.

<tool_call>
{"name": "add", "arguments": {"a": 1}}
</tool_call>
"""

from __future__ import annotations

from typing import Final

from gateway.tools.calls import CallReader
from gateway.tools.format import Format
from gateway.tools.reader import Reading

__all__ = ["HERMES"]

_BEGIN: Final = "<tool_call>"
_END: Final = "</tool_call>"


class _Reader(CallReader):
    def answer(self) -> Reading[None]:
        held = ""
        while (begin := (yield from self.until(_BEGIN, held))) is not None:
            begin += yield from self.spaces()
            held = ""
            if (yield from self.call(begin)):
                held = yield from self.skip(_END, then=_BEGIN)


HERMES: Final = Format(
    name="hermes",
    reader=_Reader,
    marker=_BEGIN,
    before="\n",
    between=f"\n{_END}\n{_BEGIN}\n",
    after=f"\n{_END}",
)
