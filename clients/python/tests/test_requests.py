"""Arguments become messages, events become answers."""

from __future__ import annotations

import sys

import pytest

from clients.python.tests.world import answer
from lepton.v1 import inference_pb2, types_pb2
from lepton_client.answer import Answer, finish_name
from lepton_client.options import Calls
from lepton_client.requests import Fields, generate_request, tokenize_request
from lepton_client.tracing import trace_metadata


def test_common_fields_go_where_the_proto_has_them() -> None:
    request = generate_request(
        {
            "model": "m",
            "max_tokens": 5,
            "temperature": 0.5,
            "seed": 0,
            "stop": "end",
            "logit_bias": {3: -1.0},
            "json_schema": "{}",
            "logprobs": 2,
            "top_p": None,
        },
        text="x",
    )
    assert request.model == "m"
    assert request.stop.max_tokens == 5
    assert request.stop.strings == ["end"]
    assert request.sampling.HasField("seed")
    assert not request.sampling.HasField("top_p")
    assert request.sampling.logit_bias[3] == -1.0
    assert request.constraint.json_schema == "{}"
    assert request.output.logprobs == 2


def test_every_field_that_is_named_can_be_set() -> None:
    values = {
        "stop": ["a"],
        "logit_bias": {1: 0.5},
        **dict.fromkeys(("model", "revision", "request_id", "session_key"), "x"),
        **dict.fromkeys(("json_schema", "regex", "grammar"), "x"),
    }
    for name in Fields.__optional_keys__:
        request = generate_request({name: values.get(name, 1)}, text="x")
        assert request.ByteSize() > 3, name


def test_a_misspelt_field_is_named() -> None:
    with pytest.raises(TypeError, match="'max_token' is no field"):
        generate_request({"max_token": 5}, text="x")


def test_a_conversation_is_a_text_or_messages() -> None:
    (message,) = generate_request({}, messages="Hi").chat.messages
    assert (message.role, message.content) == (types_pb2.ROLE_USER, "Hi")
    messages = [
        {"role": "system", "content": "Be brief."},
        types_pb2.ChatMessage(role=types_pb2.ROLE_ASSISTANT, content="Yes."),
    ]
    roles = [m.role for m in generate_request({}, messages=messages).chat.messages]
    assert roles == [types_pb2.ROLE_SYSTEM, types_pb2.ROLE_ASSISTANT]
    with pytest.raises(ValueError, match="ROLE_ROBOT"):
        generate_request({}, messages=[{"role": "robot", "content": "x"}])
    assert tokenize_request("Hi", "").WhichOneof("input") == "text"
    assert tokenize_request(messages, "").WhichOneof("input") == "chat"


def test_an_answer_fills_while_it_is_read() -> None:
    got = Answer(2)
    events = answer(2, choices=2)
    for event in events[:-1]:
        got.take(event)
    assert got.texts == ["0 1 ", "0 1 "]
    assert got.usage is None
    got.take(events[-1])
    assert got.finish_reasons == ["STOP", "STOP"]
    assert got.usage is not None


def test_a_kind_and_an_end_of_tomorrow_are_passed_over() -> None:
    Answer().take(inference_pb2.Event(seq=3))
    assert finish_name(99) == "99"


def test_options_that_cannot_hold_together_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="resume"):
        Calls(["a:1"], {"resume": True, "direct": True}, lambda: 0.0)
    calls = Calls(["a:1"], {}, lambda: 0.0)
    with pytest.raises(ValueError, match="timeout"):
        calls.generate(inference_pb2.GenerateRequest(), 0)


def test_metadata_say_who_calls() -> None:
    calls = Calls(
        ["a:1"],
        {"api_key": "k", "caller": "alice", "metadata": {"x": "y"}, "traceparent": lambda: "00-1"},
        lambda: 0.0,
    )
    step = next(calls.unary("ListModels", inference_pb2.ListModelsRequest(), None))
    assert step.metadata == (  # type: ignore[union-attr]
        ("x", "y"),
        ("lepton-caller", "alice"),
        ("authorization", "Bearer k"),
        ("traceparent", "00-1"),
    )


def test_the_context_of_opentelemetry_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = pytest.importorskip("opentelemetry.trace")
    context = trace.SpanContext(1, 2, is_remote=False, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(context)):
        assert dict(trace_metadata(None))["traceparent"] == f"00-{1:032x}-{2:016x}-01"
        assert trace_metadata(lambda: None) == ()
    monkeypatch.delitem(sys.modules, "opentelemetry")
    assert trace_metadata(None) == ()
