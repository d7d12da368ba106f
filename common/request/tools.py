"""The part of the validator that looks at tools: those that a chat offers, the calls in its messages, their answers.

Whether the model knows tools at all only the worker knows (`worker.transport.convert`).
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

from common.errors import InvalidRequest, Reason
from common.limits import Limits
from lepton.v1 import types_pb2

__all__ = ["tool_bytes", "validate_tools"]

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_ID_CHARS_MAX: Final = 128
_ESCAPED_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def validate_tools(chat: types_pb2.ChatInput, limits: Limits) -> None:
    """Returns when everything about tools in `chat` is acceptable to any model that knows them; raises
    `InvalidRequest` with the first fault otherwise. The size of it all was checked before.
    """
    if len(chat.tools) > limits.tools_max:
        _fail(
            f"{len(chat.tools)} tools; at most {limits.tools_max} are allowed (setting limits.tools_max)",
            Reason.FIELD_TOO_LARGE,
            "chat.tools",
        )
    names: set[str] = set()
    for index, tool in enumerate(chat.tools):
        field = f"chat.tools[{index}]"
        _name(tool.name, f"{field}.name")
        if tool.name in names:
            _fail(
                f"two tools have the name {tool.name}; give each its own",
                Reason.FIELD_MALFORMED,
                f"{field}.name",
            )
        names.add(tool.name)
        if tool.parameters_json:
            _object(tool.parameters_json, limits, f"{field}.parameters_json")
    for index, message in enumerate(chat.messages):
        _message(message, limits, f"chat.messages[{index}]")


def tool_bytes(chat: types_pb2.ChatInput) -> int:
    """What tools, calls and ids add to the size of the prompt, UTF-8 bytes."""
    texts = [
        text for tool in chat.tools for text in (tool.name, tool.description, tool.parameters_json)
    ]
    for message in chat.messages:
        texts.append(message.tool_call_id)
        for call in message.tool_calls:
            texts += (call.id, call.name, call.arguments_json)
    return sum(len(text.encode()) for text in texts)


def _message(message: types_pb2.ChatMessage, limits: Limits, field: str) -> None:
    if message.tool_calls and message.role != types_pb2.ROLE_ASSISTANT:
        _fail(
            "only a message of the assistant has tool_calls",
            Reason.FIELDS_CONTRADICT,
            f"{field}.tool_calls",
        )
    if message.tool_call_id and message.role != types_pb2.ROLE_TOOL:
        _fail(
            "only a message of a tool has a tool_call_id",
            Reason.FIELDS_CONTRADICT,
            f"{field}.tool_call_id",
        )
    if len(message.tool_calls) > limits.tools_max:
        _fail(
            f"{len(message.tool_calls)} calls; at most {limits.tools_max} are allowed (setting limits.tools_max)",
            Reason.FIELD_TOO_LARGE,
            f"{field}.tool_calls",
        )
    _id(message.tool_call_id, f"{field}.tool_call_id")
    for index, call in enumerate(message.tool_calls):
        where = f"{field}.tool_calls[{index}]"
        _id(call.id, f"{where}.id")
        _name(call.name, f"{where}.name")
        if call.arguments_json:
            _object(call.arguments_json, limits, f"{where}.arguments_json")


def _name(name: str, field: str) -> None:
    if not _NAME.fullmatch(name):
        _fail(
            "the name of a tool has 1 to 64 characters of A-Z a-z 0-9 _ -",
            Reason.FIELD_MALFORMED if name else Reason.FIELD_REQUIRED,
            field,
        )


def _id(text: str, field: str) -> None:
    if len(text) > _ID_CHARS_MAX:
        _fail(f"at most {_ID_CHARS_MAX} characters", Reason.FIELD_TOO_LARGE, field)


def _object(text: str, limits: Limits, field: str) -> None:
    """A JSON object as every parser reads it: no NaN, no half characters, no endless nesting."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
        if _ESCAPED_SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        _too_deep(limits, field)
    except UnicodeEncodeError:
        _fail("holds half of a surrogate pair", Reason.FIELD_MALFORMED, field)
    except ValueError as error:
        _fail(f"is not JSON: {error}", Reason.FIELD_MALFORMED, field)
    if not isinstance(value, dict):
        _fail("must be a JSON object", Reason.FIELD_MALFORMED, field)
    layer: list[Any] = [value]
    for _ in range(limits.json_depth_max):
        layer = [inner for outer in layer for inner in _inside(outer)]
        if not layer:
            return
    _too_deep(limits, field)


def _inside(value: Any) -> list[Any]:
    inside = value.values() if isinstance(value, dict) else value
    return [inner for inner in inside if isinstance(inner, dict | list)]


def _too_deep(limits: Limits, field: str) -> NoReturn:
    _fail(
        f"is nested more than {limits.json_depth_max} deep (setting limits.json_depth_max)",
        Reason.FIELD_TOO_LARGE,
        field,
    )


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _fail(message: str, reason: Reason, field: str) -> NoReturn:
    raise InvalidRequest(message, reason=reason, field=field)
