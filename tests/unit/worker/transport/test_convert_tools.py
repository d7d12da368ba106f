"""Tools and calls on their way from the proto to the template."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common.errors import InvalidRequest, Reason, Unsupported
from lepton.v1 import inference_pb2, types_pb2
from worker.tasks.api import ChatPrompt, ModelFacts, Tool, ToolCall
from worker.transport.convert import parse_detokenize, parse_prompt

MODEL = ModelFacts(
    name="demo",
    revision="abcdef0123456789" * 4,
    context_length=100,
    vocab_size=50,
    eos_ids=frozenset({2}),
    fingerprint="f",
    tool_format="hermes",
)


def _request() -> inference_pb2.GenerateRequest:
    request = inference_pb2.GenerateRequest()
    request.chat.messages.add(role=types_pb2.ROLE_USER, content="hi")
    return request


def test_tools_and_calls_are_read() -> None:
    request = _request()
    request.chat.messages.add(
        role=types_pb2.ROLE_ASSISTANT,
        tool_calls=[
            types_pb2.ToolCall(id="1", name="add", arguments_json='{"a": 1}'),
            types_pb2.ToolCall(name="now"),
        ],
    )
    request.chat.messages.add(role=types_pb2.ROLE_TOOL, content="2", tool_call_id="1")
    request.chat.tools.add(name="add", description="adds", parameters_json='{"type": "object"}')
    request.chat.tools.add(name="now")
    prompt = parse_prompt(request, MODEL)
    assert isinstance(prompt, ChatPrompt)
    assert prompt.turns[1].tool_calls == (
        ToolCall(id="1", name="add", arguments={"a": 1}),
        ToolCall(id="", name="now", arguments={}),
    )
    assert prompt.turns[2].tool_call_id == "1"
    assert prompt.tools == (
        Tool(name="add", description="adds", parameters={"type": "object"}),
        Tool(name="now", description="", parameters={"type": "object", "properties": {}}),
    )


def test_a_model_without_tools_refuses_them_and_calls() -> None:
    plain = replace(MODEL, tool_format="")
    parse_prompt(_request(), plain)
    with_tools, with_calls = _request(), _request()
    with_tools.chat.tools.add(name="add")
    with_calls.chat.messages.add(role=types_pb2.ROLE_ASSISTANT).tool_calls.add(name="add")
    for request, field in (
        (with_tools, "chat.tools"),
        (with_calls, "chat.messages[1].tool_calls"),
    ):
        with pytest.raises(Unsupported, match="knows no tools") as caught:
            parse_prompt(request, plain)
        assert (caught.value.reason, caught.value.field) == (Reason.TOOLS_UNSUPPORTED, field)


def test_ids_that_the_model_does_not_have_are_refused() -> None:
    assert parse_detokenize(inference_pb2.DetokenizeRequest(token_ids=[1, 49]), MODEL) == (1, 49)
    with pytest.raises(InvalidRequest) as caught:
        parse_detokenize(inference_pb2.DetokenizeRequest(token_ids=[1, 50]), MODEL)
    assert (caught.value.reason, caught.value.field) == (
        Reason.TOKEN_ID_OUT_OF_RANGE,
        "token_ids[1]",
    )
