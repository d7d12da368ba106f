"""Messages and tools in the shape that chat templates know from transformers, and a way to change every text in them.

    message   {"role", "content", "name"?, "tool_calls"?: [call, …], "tool_call_id"?}
    call      {"id", "type": "function", "function": {"name", "arguments"}}
tool      {"type": "function", "function": {"name", "description", "parameters"}}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from typing import Any, Final, Protocol

__all__ = ["ChatMessage", "Tool", "ToolCall", "message_view", "texts_in", "tool_view"]

# fmt: off
_SCHEMA_WORDS: Final = frozenset({
    "type", "object", "string", "number", "integer", "boolean", "array", "null", "properties", "required", "items",
    "enum", "const", "description", "default", "anyOf", "oneOf", "allOf", "additionalProperties", "title", "format",
    "minimum", "maximum",
})
# fmt: on
"""Words of JSON schemas that templates compare with; they stay as they are although a control token may contain one."""


class ToolCall(Protocol):
    """A call as a model made it, told by strangers."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def arguments(self) -> Mapping[str, Any]: ...


class ChatMessage(Protocol):
    """One message; the role is chosen by us, everything else by strangers."""

    @property
    def role(self) -> str: ...
    @property
    def content(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def tool_calls(self) -> SequenceOf[ToolCall]: ...
    @property
    def tool_call_id(self) -> str: ...


class Tool(Protocol):
    """What the model may call, told by strangers."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...


Change = Callable[[str], str]


def message_view(message: ChatMessage, change: Change) -> dict[str, Any]:
    """With every text but the role changed; keys for what is not there are left out."""
    view: dict[str, Any] = {"role": message.role, "content": change(message.content)}
    if message.name:
        view["name"] = change(message.name)
    if message.tool_calls:
        view["tool_calls"] = [
            {
                "id": change(call.id),
                "type": "function",
                "function": {
                    "name": change(call.name),
                    "arguments": _changed(call.arguments, change),
                },
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        view["tool_call_id"] = change(message.tool_call_id)
    return view


def tool_view(tool: Tool, change: Change) -> dict[str, Any]:
    """With every text changed."""
    return {
        "type": "function",
        "function": {
            "name": change(tool.name),
            "description": change(tool.description),
            "parameters": _changed(tool.parameters, change),
        },
    }


def texts_in(messages: SequenceOf[ChatMessage], tools: SequenceOf[Tool]) -> list[str]:
    """Everything that strangers say in them; other values of JSON count as their text."""
    texts: list[str] = []
    for message in messages:
        texts += (message.content, message.name, message.tool_call_id)
        for call in message.tool_calls:
            texts += (call.id, call.name, *_texts(call.arguments))
    for tool in tools:
        texts += (tool.name, tool.description, *_texts(tool.parameters))
    return texts


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from _texts(inner)
    elif isinstance(value, list):
        yield ", " * len(value)
        for inner in value:
            yield from _texts(inner)
    else:
        yield value if isinstance(value, str) else repr(value)


def _changed(value: Any, change: Change) -> Any:
    if isinstance(value, Mapping):
        return {_changed(key, change): _changed(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [_changed(inner, change) for inner in value]
    if isinstance(value, str) and value not in _SCHEMA_WORDS:
        return change(value)
    return value
