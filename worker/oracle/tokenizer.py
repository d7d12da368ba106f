"""The oracle's `worker.tasks.ports.Tokenizer`."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import final

from common import oracle
from worker.tasks.api import Tool

__all__ = ["OracleTokenizer"]


@final
class OracleTokenizer:
    """Bytes in, words out."""

    def encode(self, text: str) -> list[int]:
        """One id per byte."""
        return oracle.encode(text)

    def encode_chat(
        self,
        messages: Sequence[oracle.Turn],
        *,
        add_generation_prompt: bool,
        tools: Sequence[Tool] = (),
    ) -> list[int]:
        """A line per message; requests with tools do not come this far."""
        del tools
        return oracle.encode_chat(messages, add_generation_prompt=add_generation_prompt)

    def new_detokenizer(self, *, keeps_first_space: bool = False) -> _Detokenizer:
        """For one choice; there is no first space to keep."""
        del keeps_first_space
        return _Detokenizer()

    def token_bytes(self, token_id: int) -> bytes:
        """What one token stands for."""
        return oracle.text_of(token_id)

    def printed_bytes(self, token_id: int) -> bytes:
        """The same: nothing is printed otherwise."""
        return oracle.text_of(token_id)


@final
class _Detokenizer:
    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def is_inside_character(self) -> bool:
        return bool(self._decoder.getstate()[0])

    def push(self, token_id: int) -> str:
        return self._decoder.decode(oracle.text_of(token_id))

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)
