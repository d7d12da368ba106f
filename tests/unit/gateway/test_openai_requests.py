"""Requests of the dialect, as the cluster gets them: golden conversions, and what cannot be converted."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from common.errors import InvalidRequest, LeptonError, Reason, Unsupported
from common.limits import Limits
from common.request.validate import validate_generate
from gateway.openai.constraints import constraint_name
from gateway.openai.fields import ChatRequest, CompletionRequest
from gateway.openai.read import read
from gateway.openai.to_generate import (
    chat_to_generate,
    completion_to_generate,
    prompts_of,
    timeout_s_of,
)
from gateway.openai.words import in_our_words

USER = {"role": "user", "content": "hi"}


def chat(**fields: Any) -> dict[str, Any]:
    """As JSON of the proto, without what every request has."""
    asked = read({"messages": [USER], **fields}, ChatRequest)
    made = MessageToDict(chat_to_generate(asked, "r1"))
    assert made.pop("requestId") == "r1"
    if "messages" not in fields:
        assert made.pop("chat") == {"messages": [{"role": "ROLE_USER", "content": "hi"}]}
    return made


@pytest.mark.parametrize(
    ("fields", "made"),
    [
        ({}, {}),
        ({"model": "m", "temperature": None, "stop": None, "tools": None}, {"model": "m"}),
        (
            {"temperature": 0.5, "top_p": 0.25, "n": 2, "seed": 7},
            {"sampling": {"temperature": 0.5, "topP": 0.25, "n": 2, "seed": "7"}},
        ),
        ({"seed": -1}, {"sampling": {"seed": str(2**64 - 1)}}),
        (
            {"presence_penalty": 1, "frequency_penalty": -1, "logit_bias": {"5": -100}},
            {
                "sampling": {
                    "presencePenalty": 1.0,
                    "frequencyPenalty": -1.0,
                    "logitBias": {"5": -100.0},
                }
            },
        ),
        ({"top_k": -1, "min_p": 0.5}, {"sampling": {"topK": 0, "minP": 0.5}}),
        ({"stop": "x", "max_tokens": 3}, {"stop": {"strings": ["x"], "maxTokens": 3}}),
        ({"max_tokens": 3, "max_completion_tokens": 3}, {"stop": {"maxTokens": 3}}),
        (
            {"stop": ["x", "y"], "stop_token_ids": [1], "min_tokens": 2, "ignore_eos": True},
            {"stop": {"strings": ["x", "y"], "tokenIds": [1], "minTokens": 2, "ignoreEos": True}},
        ),
        ({"logprobs": True}, {"output": {"logprobs": 0}}),
        ({"logprobs": True, "top_logprobs": 4}, {"output": {"logprobs": 4}}),
        ({"logprobs": False}, {}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"constraint": {"jsonObject": {}}}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {"type": "null"}, "strict": True},
                }
            },
            {"constraint": {"jsonSchema": '{"type": "null"}'}},
        ),
        ({"guided_regex": "a+"}, {"constraint": {"regex": "a+"}}),
        ({"guided_choice": ["a", "b"]}, {"constraint": {"literals": {"texts": ["a", "b"]}}}),
        ({"guided_json": "{}"}, {"constraint": {"jsonSchema": "{}"}}),
        ({"structured_outputs": {"grammar": "g"}}, {"constraint": {"grammar": "g"}}),
        ({"cache_salt": "s", "prompt_cache_key": "k"}, {"cache": {"salt": "s"}, "sessionKey": "k"}),
        (
            {
                "prompt_cache_key": "other",
                "lepton": {
                    "resumable_ms": 5,
                    "idempotency_key": "i",
                    "session_key": "s",
                    "priority": "high",
                    "revision": "00112233",
                    "queue_timeout_ms": 9,
                    "cache_bypass": True,
                },
            },
            {
                "resumableMs": 5,
                "idempotencyKey": "i",
                "sessionKey": "s",
                "priority": "PRIORITY_HIGH",
                "revision": "00112233",
                "serviceLevel": {"queueTimeoutMs": 9},
                "cache": {"bypass": True},
            },
        ),
        (
            {
                "messages": [
                    {"role": "developer", "content": [{"type": "text", "text": "a"}] * 2},
                    {
                        "role": "assistant",
                        "content": None,
                        "refusal": None,
                        "tool_calls": [
                            {
                                "id": "c1",
                                "type": "function",
                                "function": {"name": "f", "arguments": "{}"},
                            }
                        ],
                    },
                    {"role": "tool", "tool_call_id": "c1", "content": "42"},
                ],
                "add_generation_prompt": False,
            },
            {
                "chat": {
                    "messages": [
                        {"role": "ROLE_SYSTEM", "content": "aa"},
                        {
                            "role": "ROLE_ASSISTANT",
                            "toolCalls": [{"id": "c1", "name": "f", "argumentsJson": "{}"}],
                        },
                        {"role": "ROLE_TOOL", "content": "42", "toolCallId": "c1"},
                    ],
                    "addGenerationPrompt": False,
                }
            },
        ),
    ],
)
def test_golden(fields: dict[str, Any], made: dict[str, Any]) -> None:
    assert chat(**fields) == made


@pytest.mark.parametrize(
    ("fields", "param", "reason"),
    [
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens", Reason.FIELDS_CONTRADICT),
        ({"top_logprobs": 3}, "top_logprobs", Reason.FIELDS_CONTRADICT),
        ({"guided_regex": "a", "guided_json": {}}, "guided_regex", Reason.FIELDS_CONTRADICT),
        ({"structured_outputs": {}}, "structured_outputs", Reason.FIELD_REQUIRED),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema.schema",
            Reason.FIELD_REQUIRED,
        ),
        ({"seed": 2**64}, "seed", Reason.FIELD_OUT_OF_RANGE),
        ({"n": -1}, "n", Reason.FIELD_OUT_OF_RANGE),
        ({"n": True}, "n", Reason.FIELD_MALFORMED),
        ({"logit_bias": {"-1": 1}}, "logit_bias", Reason.FIELD_OUT_OF_RANGE),
        ({"logit_bias": {"²": 1}}, "logit_bias", Reason.FIELD_MALFORMED),
        ({"messages": None}, "messages", Reason.FIELD_MALFORMED),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
            Reason.PARAMETER_UNSUPPORTED,
        ),
        ({"stream_options": {"x": 1}}, "stream_options.x", Reason.FIELD_MALFORMED),
        ({"audio": {}}, "audio", Reason.PARAMETER_UNSUPPORTED),
        ({"store": True}, "store", Reason.PARAMETER_UNSUPPORTED),
        ({"reasoning_effort": "high"}, "reasoning_effort", Reason.PARAMETER_UNSUPPORTED),
        ({"functions": [{}]}, "functions", Reason.PARAMETER_UNSUPPORTED),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(
    fields: dict[str, Any], param: str, reason: Reason
) -> None:
    with pytest.raises((InvalidRequest, Unsupported)) as refused:
        chat(**fields)
    assert (refused.value.field, refused.value.reason) == (param, reason)


@pytest.mark.parametrize(
    "fields",
    [
        {"store": False},
        {"metadata": {"a": "b"}},
        {"user": "u", "safety_identifier": "x"},
        {"service_tier": "default"},
        {"modalities": ["text"]},
        {"audio": None, "reasoning_effort": None},
    ],
)
def test_what_changes_nothing_is_let_be(fields: dict[str, Any]) -> None:
    assert chat(**fields) == {}


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
        (["a", [1]], ["a", [1]]),
    ],
)
def test_prompts(prompt: Any, prompts: list[Any]) -> None:
    assert prompts_of(read({"prompt": prompt}, CompletionRequest), 2) == prompts


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ([], Reason.PROMPT_EMPTY),
        (["a"] * 3, Reason.FIELD_TOO_LARGE),
        ([1, "a", True], Reason.FIELD_MALFORMED),
        ([[1, "a"]], Reason.FIELD_MALFORMED),
        ([{}], Reason.FIELD_MALFORMED),
        ([-1], Reason.TOKEN_ID_OUT_OF_RANGE),
        ([2**32], Reason.TOKEN_ID_OUT_OF_RANGE),
        ({}, Reason.FIELD_MALFORMED),
    ],
)
def test_prompts_that_are_none(prompt: Any, reason: Reason) -> None:
    with pytest.raises(InvalidRequest) as refused:
        prompts_of(
            read({"prompt": prompt}, CompletionRequest),
            5 if reason != Reason.FIELD_TOO_LARGE else 2,
        )
    assert (refused.value.field, refused.value.reason) == ("prompt", reason)


def test_a_completion() -> None:
    asked = read({"prompt": "a", "logprobs": 0, "lepton": {"timeout_ms": 1500}}, CompletionRequest)
    made = MessageToDict(completion_to_generate(asked, [5, 6], "r1"))
    assert made == {
        "requestId": "r1",
        "tokenIds": {"ids": [5, 6]},
        "output": {"logprobs": 0},
    }
    assert timeout_s_of(asked) == 1.5


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"top_p": 0}, "top_p"),
        ({"n": 10_000}, "n"),
        ({"temperature": 1e300}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["x"] * 100}, "stop"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop_token_ids": [1] * 1000}, "stop_token_ids"),
        ({"logit_bias": {"1": 1000}}, "logit_bias"),
        ({"messages": []}, "messages"),
        ({"guided_grammar": ""}, "guided_grammar"),
        ({"logprobs": True, "top_logprobs": 1000}, "logprobs"),
        ({"lepton": {"resumable_ms": 10**9}}, "lepton.resumable_ms"),
        ({"lepton": {"revision": "zz"}}, "lepton.revision"),
        ({"lepton": {"session_key": "x" * 999}}, "lepton.session_key"),
        ({"cache_salt": "x" * 999}, "cache_salt"),
        ({"model": "x" * 999}, "model"),
    ],
)
def test_what_the_validator_finds_is_called_as_here(fields: dict[str, Any], param: str) -> None:
    asked = read({"messages": [USER], **fields}, ChatRequest)
    with pytest.raises(LeptonError) as refused:
        validate_generate(chat_to_generate(asked, "r1"), Limits())
    special = {"constraint": constraint_name(asked)}
    assert in_our_words(refused.value, special).field == (
        "output.logprobs" if param == "logprobs" else param
    )


@pytest.mark.parametrize(
    ("field", "words"),
    [
        (
            "chat.messages[3].tool_calls[0].arguments_json",
            "messages[3].tool_calls[0].function.arguments",
        ),
        ("chat.tools[1].parameters_json", "tools[1].function.parameters"),
        ("chat.tools[1].name", "tools[1].function.name"),
        ("chat.tools", "tools"),
        ("resume.resume_token", "last-event-id"),
        ("input", "prompt"),
        ("output.logprobs", "top_logprobs"),
        ("constraint.json_schema", "guided_json"),
        ("lepton-caller", "lepton-caller"),
    ],
)
def test_fields_in_words(field: str, words: str) -> None:
    special = {"input": "prompt", "output.logprobs": "top_logprobs", "constraint": "guided_json"}
    error = InvalidRequest("x", field=field)
    assert in_our_words(error, special).field == words
