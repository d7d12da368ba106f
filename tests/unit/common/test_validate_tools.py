"""What the validator says of tools, of calls, and of the method that turns ids into text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from common.errors import InvalidRequest, Reason
from common.limits import Limits
from common.request.validate import validate_detokenize, validate_generate
from lepton.v1.inference_pb2 import DetokenizeRequest, GenerateRequest
from lepton.v1.types_pb2 import ChatMessage, Role, ToolCall

LIMITS = Limits(tools_max=3)
Change = Callable[[GenerateRequest], object]


def _good() -> GenerateRequest:
    request = GenerateRequest()
    chat = request.chat
    chat.messages.add(role=Role.ROLE_USER, content="hi")
    chat.messages.add(
        role=Role.ROLE_ASSISTANT,
        tool_calls=[ToolCall(id="1", name="add", arguments_json='{"a": [1, {"b": null}]}')],
    )
    chat.messages.add(role=Role.ROLE_TOOL, content="2", tool_call_id="1", name="add")
    chat.tools.add(name="add", description="adds", parameters_json='{"type": "object"}')
    chat.tools.add(name="sub-2_X")
    return request


def nested(depth: int) -> str:
    return '{"a":' + "[" * (depth - 1) + "]" * (depth - 1) + "}"


def parameters(text: str) -> Change:
    return lambda r: setattr(r.chat.tools[0], "parameters_json", text)


def arguments(text: str) -> Change:
    return lambda r: setattr(r.chat.messages[1].tool_calls[0], "arguments_json", text)


PARAMETERS = "chat.tools[0].parameters_json"
ARGUMENTS = "chat.messages[1].tool_calls[0].arguments_json"
BAD: dict[str, tuple[Change, Reason, str]] = {
    "many tools": (
        lambda r: [r.chat.tools.add(name=f"t{i}") for i in range(2)],
        Reason.FIELD_TOO_LARGE,
        "chat.tools",
    ),
    "no name": (lambda r: r.chat.tools.add(), Reason.FIELD_REQUIRED, "chat.tools[2].name"),
    "odd name": (
        lambda r: r.chat.tools.add(name='x"'),
        Reason.FIELD_MALFORMED,
        "chat.tools[2].name",
    ),
    "long name": (
        lambda r: r.chat.tools.add(name="x" * 65),
        Reason.FIELD_MALFORMED,
        "chat.tools[2].name",
    ),
    "twice": (
        lambda r: r.chat.tools.add(name="add"),
        Reason.FIELD_MALFORMED,
        "chat.tools[2].name",
    ),
    "no JSON": (parameters("{"), Reason.FIELD_MALFORMED, PARAMETERS),
    "no object": (parameters("[1]"), Reason.FIELD_MALFORMED, PARAMETERS),
    "NaN": (parameters('{"a": NaN}'), Reason.FIELD_MALFORMED, PARAMETERS),
    "huge number": (parameters('{"a": %s}' % ("9" * 5000)), Reason.FIELD_MALFORMED, PARAMETERS),
    "half a character": (parameters(r'{"a": "\ud800"}'), Reason.FIELD_MALFORMED, PARAMETERS),
    "deep": (parameters(nested(LIMITS.json_depth_max + 1)), Reason.FIELD_TOO_LARGE, PARAMETERS),
    "250,000 deep": (parameters(nested(250_000)), Reason.FIELD_TOO_LARGE, PARAMETERS),
    "large": (
        lambda r: setattr(r.chat.tools[0], "description", "é" * 600_000),
        Reason.FIELD_TOO_LARGE,
        "chat",
    ),
    "arguments": (arguments("nope"), Reason.FIELD_MALFORMED, ARGUMENTS),
    "deep arguments": (
        arguments(nested(LIMITS.json_depth_max + 1)),
        Reason.FIELD_TOO_LARGE,
        ARGUMENTS,
    ),
    "call without name": (
        lambda r: r.chat.messages[1].tool_calls.add(id="2"),
        Reason.FIELD_REQUIRED,
        "chat.messages[1].tool_calls[1].name",
    ),
    "long id": (
        lambda r: setattr(r.chat.messages[1].tool_calls[0], "id", "x" * 129),
        Reason.FIELD_TOO_LARGE,
        "chat.messages[1].tool_calls[0].id",
    ),
    "long answer id": (
        lambda r: setattr(r.chat.messages[2], "tool_call_id", "x" * 129),
        Reason.FIELD_TOO_LARGE,
        "chat.messages[2].tool_call_id",
    ),
    "many calls": (
        lambda r: r.chat.messages[1].tool_calls.extend([ToolCall(name="add")] * 3),
        Reason.FIELD_TOO_LARGE,
        "chat.messages[1].tool_calls",
    ),
    "a user calls": (
        lambda r: r.chat.messages[0].tool_calls.add(name="add"),
        Reason.FIELDS_CONTRADICT,
        "chat.messages[0].tool_calls",
    ),
    "a user answers": (
        lambda r: setattr(r.chat.messages[0], "tool_call_id", "1"),
        Reason.FIELDS_CONTRADICT,
        "chat.messages[0].tool_call_id",
    ),
}


def test_good_tools_pass() -> None:
    validate_generate(_good(), LIMITS)
    request = _good()
    parameters(nested(LIMITS.json_depth_max))(request)
    parameters('{"a": "\\ud83d\\ude00"}')(request)
    validate_generate(request, LIMITS)


@pytest.mark.parametrize("name", BAD)
def test_each_fault_has_its_reason_and_field(name: str) -> None:
    change, reason, field = BAD[name]
    request = _good()
    change(request)
    with pytest.raises(InvalidRequest) as caught:
        validate_generate(request, LIMITS)
    assert (caught.value.reason, caught.value.field) == (reason, field)


def test_a_tool_message_needs_no_id() -> None:
    request = _good()
    request.chat.messages.append(ChatMessage(role=Role.ROLE_TOOL, content="x"))
    validate_generate(request, LIMITS)


def test_ids_to_turn_into_text_are_bounded() -> None:
    limits = Limits(prompt_bytes_max=10)
    validate_detokenize(DetokenizeRequest(token_ids=[1] * 10), limits)
    validate_detokenize(DetokenizeRequest(), limits)
    for request, field in (
        (DetokenizeRequest(token_ids=[1] * 11), "token_ids"),
        (DetokenizeRequest(model="m" * 129), "model"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            validate_detokenize(request, limits)
        assert (caught.value.reason, caught.value.field) == (Reason.FIELD_TOO_LARGE, field)
