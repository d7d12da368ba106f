from __future__ import annotations

from typing import Any

import pytest

from common.errors import InvalidRequest, NotFound, Reason
from common.limits import Limits
from lepton.v1 import inference_pb2, types_pb2
from worker.tasks.api import (
    ChatPrompt,
    ChatTurn,
    GenerateRequest,
    ModelFacts,
    TextPrompt,
    TokenPrompt,
)
from worker.tasks.lengths import max_tokens_of
from worker.transport.convert import parse_generate

MODEL = ModelFacts(
    name="demo",
    revision="abcdef0123456789" * 4,
    context_length=100,
    vocab_size=50,
    eos_ids=frozenset({2}),
    fingerprint="f",
)


def parse(**fields: Any) -> GenerateRequest:
    return parse_generate(
        inference_pb2.GenerateRequest(**{"text": "x", **fields}),
        model=MODEL,
        limits=Limits(),
        request_id="r",
        arrived_at=1.0,
        deadline=2.0,
        new_seed=lambda: 77,
    )


def test_absent_fields_become_the_stated_defaults() -> None:
    request = parse()
    assert request.prompt == TextPrompt("x")
    assert request.sampling.is_plain_greedy
    assert request.sampling.seed == 77
    assert (request.sampling.top_p, request.sampling.repetition_penalty) == (1.0, 1.0)
    assert (request.n, request.max_tokens, request.min_tokens) == (1, None, 0)
    assert request.max_tokens_default == Limits().max_tokens_default
    assert (request.priority, request.ignore_eos) == (0, False)


def test_a_zero_that_was_set_is_not_an_absent_field() -> None:
    request = parse(
        sampling=types_pb2.SamplingParams(seed=0), output=types_pb2.OutputOptions(logprobs=0)
    )
    assert request.sampling.seed == 0
    assert request.sampling.logprobs == 0


def test_every_field_arrives() -> None:
    request = parse(
        sampling=types_pb2.SamplingParams(
            temperature=0.5,
            top_p=0.25,
            top_k=3,
            min_p=0.125,
            repetition_penalty=1.5,
            frequency_penalty=-0.5,
            presence_penalty=0.75,
            logit_bias={49: -100.0},
            seed=2**64 - 1,
            n=4,
        ),
        stop=types_pb2.StopConditions(
            max_tokens=9, min_tokens=3, strings=["a", "b"], token_ids=[7, 7], ignore_eos=True
        ),
        priority=types_pb2.PRIORITY_HIGH,
        output=types_pb2.OutputOptions(logprobs=5),
    )
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (
        0.5,
        0.25,
        3,
        0.125,
    )
    assert (sampling.repetition_penalty, sampling.frequency_penalty) == (1.5, -0.5)
    assert (sampling.presence_penalty, sampling.logit_bias) == (0.75, {49: -100.0})
    assert (sampling.seed, sampling.logprobs, request.n) == (2**64 - 1, 5, 4)
    assert (request.max_tokens, request.min_tokens) == (9, 3)
    assert (request.stop_strings, request.stop_ids) == (("a", "b"), frozenset({7}))
    assert request.ignore_eos
    assert request.priority > parse().priority > parse(priority=types_pb2.PRIORITY_LOW).priority


def test_chats_and_ids_are_prompts() -> None:
    chat = types_pb2.ChatInput(
        messages=[types_pb2.ChatMessage(role=types_pb2.ROLE_TOOL, content="c", name="n")]
    )
    assert parse(text=None, chat=chat).prompt == ChatPrompt(
        turns=(ChatTurn(role="tool", content="c", name="n"),), add_generation_prompt=True
    )
    chat.add_generation_prompt = False
    prompt = parse(text=None, chat=chat).prompt
    assert isinstance(prompt, ChatPrompt)
    assert not prompt.add_generation_prompt
    ids = types_pb2.TokenIds(ids=[0, 49])
    assert parse(text=None, token_ids=ids).prompt == TokenPrompt((0, 49))


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"model": "Demo"}, Reason.MODEL_NOT_FOUND, "model"),
        ({"revision": "abcdef0123456780"}, Reason.REVISION_NOT_FOUND, "revision"),
        (
            {"text": None, "token_ids": types_pb2.TokenIds(ids=[50])},
            Reason.TOKEN_ID_OUT_OF_RANGE,
            "token_ids.ids[0]",
        ),
        (
            {"stop": types_pb2.StopConditions(token_ids=[3, 50])},
            Reason.TOKEN_ID_OUT_OF_RANGE,
            "stop.token_ids[1]",
        ),
        (
            {"sampling": types_pb2.SamplingParams(logit_bias={50: 1.0})},
            Reason.TOKEN_ID_OUT_OF_RANGE,
            "sampling.logit_bias[50]",
        ),
    ],
)
def test_what_the_model_does_not_have_is_refused(
    fields: dict[str, Any], reason: Reason, field: str
) -> None:
    with pytest.raises((InvalidRequest, NotFound)) as caught:
        parse(**fields)
    assert (caught.value.reason, caught.value.field) == (reason, field)


def test_name_and_a_prefix_of_the_revision_are_accepted() -> None:
    parse(model="demo", revision="abcdef01")


def lengths(num_prompt_tokens: int, asked: int | None = None, min_tokens: int = 0) -> int:
    return max_tokens_of(
        num_prompt_tokens=num_prompt_tokens,
        context_length=100,
        asked=asked,
        default=64,
        min_tokens=min_tokens,
    )


def test_the_completion_gets_what_is_asked_for_or_left() -> None:
    assert lengths(10) == 64
    assert lengths(90) == 10
    assert lengths(99) == 1
    assert lengths(10, asked=90) == 90


@pytest.mark.parametrize(
    ("arguments", "reason", "told"),
    [
        ((100,), Reason.PROMPT_TOO_LONG, "100"),
        ((0,), Reason.PROMPT_EMPTY, "no tokens"),
        ((10, 91), Reason.FIELD_OUT_OF_RANGE, "leaves 90"),
        ((10, None, 65), Reason.FIELD_OUT_OF_RANGE, "at most 64"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(
    arguments: tuple[Any, ...], reason: Reason, told: str
) -> None:
    with pytest.raises(InvalidRequest, match=told) as caught:
        lengths(*arguments)
    assert caught.value.reason is reason


def test_the_longest_wait_counts_from_the_arrival() -> None:
    assert parse().start_by is None
    assert parse(service_level=types_pb2.ServiceLevel(ttft_ms=5)).start_by is None
    assert parse(service_level=types_pb2.ServiceLevel(queue_timeout_ms=0)).start_by == 1.0
    assert parse(service_level=types_pb2.ServiceLevel(queue_timeout_ms=250)).start_by == 1.25
