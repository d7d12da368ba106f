"""A conversation as data: turns, undone and asked again, to a file and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

__all__ = ["Conversation", "Message"]

_ROLES: Final = ("system", "user", "assistant")
_KEPT_BYTES_MAX: Final = 4 << 20
"""Longest conversation in a file, bytes; of a longer one the oldest turns are left out."""


@dataclass(frozen=True, slots=True)
class Message:
    """One of them."""

    role: str
    """system, user or assistant."""
    content: str


@final
class Conversation:
    """A system prompt, if any, and then questions and answers in turn."""

    def __init__(self, system: str | None = None, turns: Sequence[Message] = ()) -> None:
        self.system = system
        self._turns = list(turns)

    @property
    def messages(self) -> list[Message]:
        """What the model sees."""
        head = [Message("system", self.system)] if self.system else []
        return head + self._turns

    @property
    def num_turns(self) -> int:
        """Questions so far."""
        return sum(message.role == "user" for message in self._turns)

    @property
    def last_question(self) -> str | None:
        """None before the first."""
        return next((one.content for one in reversed(self._turns) if one.role == "user"), None)

    def copy(self) -> Conversation:
        """Another one that begins like this."""
        return Conversation(self.system, self._turns)

    def ask(self, text: str) -> None:
        """A question."""
        self._turns.append(Message("user", text))

    def answer(self, text: str) -> None:
        """Its answer."""
        self._turns.append(Message("assistant", text))

    def undo(self) -> str | None:
        """Takes the last question and its answer back; returns the question, None when there is none."""
        while self._turns:
            message = self._turns.pop()
            if message.role == "user":
                return message.content
        return None

    def reset(self) -> None:
        """Forgets everything but the system prompt."""
        self._turns.clear()

    def to_json(self, *, model: str) -> str:
        """As a file: OpenAI's `messages`, and the model that was named ("" for none)."""
        turns = self._turns
        while True:
            kept = Conversation(self.system, turns)
            messages = [{"role": one.role, "content": one.content} for one in kept.messages]
            text = json.dumps({"model": model, "messages": messages}, ensure_ascii=True, indent=1)
            if len(text) <= _KEPT_BYTES_MAX or not turns:
                return text + "\n"
            turns = turns[max(2, len(turns) // 8) :]

    @classmethod
    def from_json(cls, text: str | bytes) -> tuple[Conversation, str]:
        """The conversation and the name of its model. Raises `ValueError` for what is none."""
        try:
            value: Any = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("it is not JSON") from None
        # A file of others may hold the bare list.
        found = value.get("messages") if isinstance(value, dict) else value
        model = value.get("model") if isinstance(value, dict) else ""
        if not isinstance(found, list):
            raise ValueError("it has no list of messages")
        messages = [_message(one) for one in found]
        system = None
        if messages and messages[0].role == "system":
            system, messages = messages[0].content, messages[1:]
        if any(one.role == "system" for one in messages):
            raise ValueError("a system prompt stands only at the beginning")
        return cls(system, messages), model if isinstance(model, str) else ""


def _message(value: Any) -> Message:
    role = value.get("role") if isinstance(value, dict) else None
    content = value.get("content") if isinstance(value, dict) else None
    if role not in _ROLES or not isinstance(content, str):
        raise ValueError(f"a message needs a role ({', '.join(_ROLES)}) and a text as content")
    return Message(role, content)
