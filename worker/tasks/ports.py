"""What tasks need of the runtime, which satisfies it by shape; `worker.app` brings the two together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from worker.engine.grammar import Constraint, Grammar
from worker.tasks.api import ChatTurn, Tool

__all__ = ["Detokenizer", "GrammarCompiler", "Tokenizer"]


class Detokenizer(Protocol):
    """Token ids of one choice → text, one at a time."""

    @property
    def is_inside_character(self) -> bool:
        """Whether the last bytes are the beginning of a character that the next token may complete."""
        ...

    def push(self, token_id: int) -> str:
        """The text that became complete with this token; empty inside a character and for control tokens."""
        ...

    def flush(self) -> str:
        """What is left at the end: an incomplete character as U+FFFD, else nothing."""
        ...


class Tokenizer(Protocol):
    """Text → ids and back. `encode` and `encode_chat` may be called from several threads at once."""

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, with what the model wants at the start; text never becomes control tokens."""
        ...

    def encode_chat(
        self,
        messages: Sequence[ChatTurn],
        *,
        add_generation_prompt: bool,
        tools: Sequence[Tool] = (),
    ) -> list[int]:
        """Ids of a conversation under the model's chat template, which shows `tools` to the model.

        Raises `InvalidRequest(CHAT_TEMPLATE_REFUSED)` when the template refuses the messages.
        """
        ...

    def new_detokenizer(self, *, keeps_first_space: bool = False) -> Detokenizer:
        """A detokenizer for one choice. `keeps_first_space`: what a grammar asked for is no habit of the tokenizer."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """What one token stands for, control tokens as their name; may be part of a character."""
        ...

    def printed_bytes(self, token_id: int) -> bytes:
        """The same, but nothing for control tokens that are never printed."""
        ...


class GrammarCompiler(Protocol):
    """Constraint → grammar, without making the event loop wait."""

    async def compile(
        self, constraint: Constraint, *, is_bounded: bool = True
    ) -> tuple[Grammar, bool]:
        """The grammar for the choices of one request, and whether the constraint was known before.

        Without `is_bounded` it waits however many wait already.

        Errors: `InvalidRequest` with a reason GRAMMAR_*, `Unsupported(CONSTRAINT_UNSUPPORTED)`, `Overloaded`,
        `Unavailable(DRAINING)`. Cancellation: gives back what it holds.
        """
        ...

    async def close(self) -> None:
        """Ends everything; called once."""
        ...
