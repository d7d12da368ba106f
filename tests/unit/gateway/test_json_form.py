"""Faults in JSON requests are named by their path."""

from __future__ import annotations

import math
from typing import Any

import pytest

from common.errors import InvalidRequest, Reason
from gateway.json_form import as_json, from_json
from lepton.v1 import inference_pb2, types_pb2

MALFORMED, RANGE = Reason.FIELD_MALFORMED, Reason.FIELD_OUT_OF_RANGE
CHAT = {"messages": [{"role": "ROLE_USER", "content": "hello"}]}


@pytest.mark.parametrize(
    ("value", "field", "reason"),
    [
        ([], None, MALFORMED),
        ({"txt": "a"}, "txt", MALFORMED),
        ({"__proto__": {}}, "__proto__", MALFORMED),
        ({"Text": "a"}, "Text", MALFORMED),
        ({"text": 1}, "text", MALFORMED),
        ({"text": ["a"]}, "text", MALFORMED),
        ({"text": "a", "chat": CHAT}, "chat", Reason.FIELDS_CONTRADICT),
        ({"resumableMs": 1, "resumable_ms": 1}, "resumable_ms", MALFORMED),
        ({"sampling": {"temperature": "0.5"}}, "sampling.temperature", MALFORMED),
        ({"sampling": {"temperature": True}}, "sampling.temperature", MALFORMED),
        ({"sampling": {"topP": "infinity"}}, "sampling.top_p", MALFORMED),
        ({"sampling": {"n": 1.5}}, "sampling.n", MALFORMED),
        ({"sampling": {"n": True}}, "sampling.n", MALFORMED),
        ({"sampling": {"n": "2"}}, "sampling.n", MALFORMED),
        ({"sampling": {"n": 2**32}}, "sampling.n", RANGE),
        ({"sampling": {"seed": "18446744073709551616"}}, "sampling.seed", RANGE),
        ({"sampling": {"seed": -1}}, "sampling.seed", RANGE),
        ({"sampling": {"seed": "0x1"}}, "sampling.seed", MALFORMED),
        ({"sampling": {"logit_bias": {"x": 1}}}, "sampling.logit_bias[x]", MALFORMED),
        ({"sampling": {"logit_bias": {"-1": 1}}}, "sampling.logit_bias[-1]", RANGE),
        ({"sampling": {"logit_bias": {"1": 1, "01": 2}}}, "sampling.logit_bias[01]", MALFORMED),
        ({"sampling": {"logit_bias": [1]}}, "sampling.logit_bias", MALFORMED),
        ({"chat": {"messages": [{"role": "USER"}]}}, "chat.messages[0].role", MALFORMED),
        ({"chat": {"messages": {}}}, "chat.messages", MALFORMED),
        ({"token_ids": {"ids": [1, -1]}}, "token_ids.ids[1]", RANGE),
        ({"token_ids": {"ids": [1, True]}}, "token_ids.ids[1]", MALFORMED),
        ({"stop": {"ignore_eos": 1}}, "stop.ignore_eos", MALFORMED),
        ({"priority": 2**40}, "priority", MALFORMED),
    ],
)
def test_a_fault_has_a_path(value: Any, field: str | None, reason: Reason) -> None:
    with pytest.raises(InvalidRequest) as refused:
        from_json(inference_pb2.GenerateRequest, value)
    assert (refused.value.field, refused.value.reason) == (field, reason)


def test_numbers_that_are_none_pass_as_they_do_in_the_other_form() -> None:
    message = from_json(inference_pb2.GenerateRequest, {"sampling": {"topP": "-Infinity"}})
    assert message.sampling.top_p == -math.inf


def test_long_names_are_not_repeated_in_full() -> None:
    with pytest.raises(InvalidRequest) as refused:
        from_json(inference_pb2.GenerateRequest, {"x" * 10_000: 1})
    assert len(refused.value.message) < 1000


def test_what_is_null_is_not_there() -> None:
    assert from_json(inference_pb2.GenerateRequest, {"text": None, "resumable_ms": None}) == (
        inference_pb2.GenerateRequest()
    )


def test_a_message_that_is_there_and_empty_is_there() -> None:
    request = from_json(inference_pb2.GenerateRequest, {"constraint": {"jsonObject": {}}})
    assert request.constraint.HasField("json_object")


def test_the_first_event_has_its_numbers() -> None:
    event = inference_pb2.Event(delta=inference_pb2.Delta(text="a"))
    assert as_json(event) == {"seq": "0", "delta": {"index": 0, "text": "a"}}


def test_numbers_that_json_has_not_are_in_quotes() -> None:
    for number, text in ((float("-inf"), "-Infinity"), (float("inf"), "Infinity")):
        assert as_json(types_pb2.TokenLogprob(logprob=number))["logprob"] == text
