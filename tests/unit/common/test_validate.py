"""The one validator: every bad request gets its reason and its field."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Forbidden, InvalidRequest, LeptonError, Reason, Unsupported
from common.limits import Limits
from common.request.parse import parse_message
from common.request.validate import validate_generate, validate_tokenize
from lepton.v1.inference_pb2 import (
    Continuation,
    CountTokensRequest,
    GenerateRequest,
    ResumeFrom,
    TokenizeRequest,
)
from lepton.v1.types_pb2 import FINISH_REASON_LENGTH, ChatMessage, Role

LIMITS = Limits()
Change = Callable[[GenerateRequest], object]


def _good() -> GenerateRequest:
    return GenerateRequest(model="m", text="hello")


def _stop_strings(count: int, text: str = "x") -> Change:
    return lambda r: r.stop.strings.extend([text] * count)


BAD: list[tuple[str, Change, Reason, str]] = [
    ("no input", lambda r: r.ClearField("input"), Reason.FIELD_REQUIRED, "input"),
    ("empty text", lambda r: setattr(r, "text", ""), Reason.PROMPT_EMPTY, "text"),
    ("empty chat", lambda r: r.chat.SetInParent(), Reason.PROMPT_EMPTY, "chat.messages"),
    ("no ids", lambda r: r.token_ids.SetInParent(), Reason.PROMPT_EMPTY, "token_ids.ids"),
    (
        "10 MB prompt",
        lambda r: setattr(r, "text", "x" * 10_000_000),
        Reason.FIELD_TOO_LARGE,
        "text",
    ),
    (
        "10 MB of messages",
        lambda r: r.chat.messages.append(ChatMessage(role=Role.ROLE_USER, content="é" * 5_000_000)),
        Reason.FIELD_TOO_LARGE,
        "chat.messages",
    ),
    (
        "too many messages",
        lambda r: r.chat.messages.extend([ChatMessage(role=Role.ROLE_USER, content="a")] * 257),
        Reason.FIELD_TOO_LARGE,
        "chat.messages",
    ),
    (
        "no role",
        lambda r: r.chat.messages.append(ChatMessage(content="a")),
        Reason.FIELD_MALFORMED,
        "chat.messages[0].role",
    ),
    (
        "unknown role",
        lambda r: r.chat.messages.append(ChatMessage(role=99, content="a")),
        Reason.FIELD_MALFORMED,
        "chat.messages[0].role",
    ),
    (
        "max_tokens 0",
        lambda r: setattr(r.stop, "max_tokens", 0),
        Reason.FIELD_OUT_OF_RANGE,
        "stop.max_tokens",
    ),
    (
        "min above max",
        lambda r: (setattr(r.stop, "max_tokens", 1), setattr(r.stop, "min_tokens", 2)),
        Reason.FIELD_OUT_OF_RANGE,
        "stop.min_tokens",
    ),
    ("100,000 stop strings", _stop_strings(100_000), Reason.FIELD_TOO_LARGE, "stop.strings"),
    ("empty stop string", _stop_strings(1, ""), Reason.FIELD_OUT_OF_RANGE, "stop.strings[0]"),
    (
        "1 MB stop string",
        _stop_strings(1, "x" * 1_000_000),
        Reason.FIELD_OUT_OF_RANGE,
        "stop.strings[0]",
    ),
    (
        "stop ids",
        lambda r: r.stop.token_ids.extend([1] * 65),
        Reason.FIELD_TOO_LARGE,
        "stop.token_ids",
    ),
    ("n 0", lambda r: setattr(r.sampling, "n", 0), Reason.FIELD_OUT_OF_RANGE, "sampling.n"),
    ("n 10^9", lambda r: setattr(r.sampling, "n", 10**9), Reason.FIELD_OUT_OF_RANGE, "sampling.n"),
    (
        "top_k",
        lambda r: setattr(r.sampling, "top_k", 2**31),
        Reason.FIELD_OUT_OF_RANGE,
        "sampling.top_k",
    ),
    (
        "logprobs",
        lambda r: setattr(r.output, "logprobs", 10**6),
        Reason.FIELD_OUT_OF_RANGE,
        "output.logprobs",
    ),
    (
        "biases",
        lambda r: r.sampling.logit_bias.update(dict.fromkeys(range(1025), 1.0)),
        Reason.FIELD_TOO_LARGE,
        "sampling.logit_bias",
    ),
    (
        "bias NaN",
        lambda r: r.sampling.logit_bias.update({7: math.nan}),
        Reason.FIELD_NOT_FINITE,
        "sampling.logit_bias[7]",
    ),
    (
        "bias range",
        lambda r: r.sampling.logit_bias.update({7: 101.0}),
        Reason.FIELD_OUT_OF_RANGE,
        "sampling.logit_bias[7]",
    ),
    (
        "request id",
        lambda r: setattr(r, "request_id", "a\nb"),
        Reason.FIELD_MALFORMED,
        "request_id",
    ),
    (
        "long id",
        lambda r: setattr(r, "request_id", "a" * 129),
        Reason.FIELD_MALFORMED,
        "request_id",
    ),
    ("model", lambda r: setattr(r, "model", "m" * 65_000), Reason.FIELD_TOO_LARGE, "model"),
    ("revision", lambda r: setattr(r, "revision", "../x"), Reason.FIELD_MALFORMED, "revision"),
    (
        "session",
        lambda r: setattr(r, "session_key", "s" * 129),
        Reason.FIELD_TOO_LARGE,
        "session_key",
    ),
    ("salt", lambda r: setattr(r.cache, "salt", "s" * 65), Reason.FIELD_TOO_LARGE, "cache.salt"),
    ("priority", lambda r: setattr(r, "priority", 9), Reason.FIELD_MALFORMED, "priority"),
    ("adapter", lambda r: setattr(r, "adapter", "a"), Reason.ADAPTER_UNSUPPORTED, "adapter"),
    (
        "constraint of no kind",
        lambda r: r.constraint.SetInParent(),
        Reason.FIELD_REQUIRED,
        "constraint",
    ),
    (
        "constraint without an end",
        lambda r: (setattr(r.constraint, "regex", "a"), setattr(r.stop, "ignore_eos", True)),
        Reason.FIELDS_CONTRADICT,
        "stop.ignore_eos",
    ),
    (
        "empty schema",
        lambda r: setattr(r.constraint, "json_schema", ""),
        Reason.FIELD_REQUIRED,
        "constraint.json_schema",
    ),
    (
        "huge grammar",
        lambda r: setattr(r.constraint, "grammar", "#" * ((64 << 10) + 1)),
        Reason.FIELD_TOO_LARGE,
        "constraint.grammar",
    ),
    (
        "no literals",
        lambda r: r.constraint.literals.SetInParent(),
        Reason.FIELD_REQUIRED,
        "constraint.literals.texts",
    ),
    (
        "too many literals",
        lambda r: r.constraint.literals.texts.extend(map(str, range(1025))),
        Reason.FIELD_TOO_LARGE,
        "constraint.literals.texts",
    ),
    (
        "an empty literal",
        lambda r: r.constraint.literals.texts.extend(["a", ""]),
        Reason.FIELD_OUT_OF_RANGE,
        "constraint.literals.texts",
    ),
    (
        "two literals alike",
        lambda r: r.constraint.literals.texts.extend(["a", "a"]),
        Reason.FIELD_MALFORMED,
        "constraint.literals.texts",
    ),
    (
        "long literals",
        lambda r: r.constraint.literals.texts.extend(["a" * (33 << 10), "b" * (33 << 10)]),
        Reason.FIELD_TOO_LARGE,
        "constraint.literals.texts",
    ),
    (
        "resumable too long",
        lambda r: setattr(r, "resumable_ms", 60_001),
        Reason.FIELD_OUT_OF_RANGE,
        "resumable_ms",
    ),
    (
        "resume what",
        lambda r: r.resume.SetInParent(),
        Reason.FIELD_REQUIRED,
        "resume.resume_token",
    ),
    (
        "resume of a call that was not resumable",
        lambda r: r.resume.CopyFrom(ResumeFrom(resume_token="t")),
        Reason.FIELDS_CONTRADICT,
        "resume",
    ),
    (
        "no resume token is that long",
        lambda r: r.resume.CopyFrom(ResumeFrom(resume_token="t" * 1025)),
        Reason.FIELD_TOO_LARGE,
        "resume.resume_token",
    ),
    (
        "long idempotency key",
        lambda r: setattr(r, "idempotency_key", "k" * 129),
        Reason.FIELD_TOO_LARGE,
        "idempotency_key",
    ),
    (
        "continuation",
        lambda r: r.continuation.CopyFrom(Continuation()),
        Reason.ROUTER_ONLY_FIELD,
        "continuation",
    ),
]

RANGES = {
    "temperature": (-0.1, 10.1),
    "top_p": (0.0, 1.1),
    "min_p": (-0.1, 1.1),
    "repetition_penalty": (0.0, 10.1),
    "frequency_penalty": (-2.1, 2.1),
    "presence_penalty": (-2.1, 2.1),
}


@pytest.mark.parametrize(
    ("change", "reason", "field"), [b[1:] for b in BAD], ids=[b[0] for b in BAD]
)
def test_bad_requests_are_refused_with_reason_and_field(
    change: Change, reason: Reason, field: str
) -> None:
    request = _good()
    change(request)
    with pytest.raises(LeptonError) as caught:
        validate_generate(request, LIMITS)
    assert (caught.value.reason, caught.value.field) == (reason, field)
    assert isinstance(caught.value, InvalidRequest | Unsupported | Forbidden)


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(name: str, value: float) -> None:
    request = _good()
    setattr(request.sampling, name, value)
    with pytest.raises(InvalidRequest) as caught:
        validate_generate(request, LIMITS)
    assert caught.value.reason is Reason.FIELD_NOT_FINITE
    assert caught.value.field == f"sampling.{name}"


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, pair in RANGES.items() for value in pair]
)
def test_numbers_outside_their_range_are_refused(name: str, value: float) -> None:
    request = _good()
    setattr(request.sampling, name, value)
    with pytest.raises(InvalidRequest) as caught:
        validate_generate(request, LIMITS)
    assert caught.value.reason is Reason.FIELD_OUT_OF_RANGE


def test_good_requests_pass() -> None:
    request = _good()
    request.sampling.temperature = 0.0
    request.sampling.top_p = 1.0
    request.sampling.n = LIMITS.choices_max
    request.stop.max_tokens = 2**31
    request.stop.strings.extend(["x"] * LIMITS.stop_strings_max)
    request.revision = "0123abcd"
    validate_generate(request, LIMITS)


def _continued(request: GenerateRequest) -> Continuation:
    """A continuation that goes with `_good` when it asks for two choices, one of which has ended."""
    request.sampling.n = 2
    request.stop.strings.append("</s>")
    request.stop.token_ids.append(7)
    sent = request.continuation
    sent.next_seq, sent.attempt, sent.from_worker_id = 4, 1, "w1"
    sent.prompt_tokens, sent.cached_tokens = 9, 9
    sent.choices.add(token_ids=[1, 2])
    sent.choices.add(token_ids=[3]).end.reason = FINISH_REASON_LENGTH
    return sent


BAD_CONTINUATIONS: list[tuple[str, Callable[[Continuation], object], Reason, str]] = [
    ("no seq", lambda c: setattr(c, "next_seq", 0), Reason.FIELD_OUT_OF_RANGE, "next_seq"),
    ("no attempt", lambda c: setattr(c, "attempt", 0), Reason.FIELD_OUT_OF_RANGE, "attempt"),
    ("attempts", lambda c: setattr(c, "attempt", 101), Reason.FIELD_OUT_OF_RANGE, "attempt"),
    (
        "long worker id",
        lambda c: setattr(c, "from_worker_id", "w" * 129),
        Reason.FIELD_TOO_LARGE,
        "from_worker_id",
    ),
    (
        "more cached than there were",
        lambda c: setattr(c, "cached_tokens", 10),
        Reason.FIELD_OUT_OF_RANGE,
        "cached_tokens",
    ),
    ("a choice too few", lambda c: c.choices.pop(), Reason.FIELDS_CONTRADICT, "choices"),
    ("a choice too many", lambda c: c.choices.add(), Reason.FIELDS_CONTRADICT, "choices"),
    (
        "an end before the first token",
        lambda c: c.choices[1].ClearField("token_ids"),
        Reason.FIELD_REQUIRED,
        "choices[1].token_ids",
    ),
    (
        "an end without a reason",
        lambda c: c.choices[1].end.ClearField("reason"),
        Reason.FIELD_MALFORMED,
        "choices[1].end.reason",
    ),
    (
        "an end for an unknown reason",
        lambda c: setattr(c.choices[1].end, "reason", 99),
        Reason.FIELD_MALFORMED,
        "choices[1].end.reason",
    ),
    (
        "another stop string",
        lambda c: setattr(c.choices[1].end, "stop_string", "<s>"),
        Reason.FIELDS_CONTRADICT,
        "choices[1].end.stop_string",
    ),
    (
        "another stop id",
        lambda c: setattr(c.choices[1].end, "stop_token_id", 8),
        Reason.FIELDS_CONTRADICT,
        "choices[1].end.stop_token_id",
    ),
    (
        "too many ids",
        lambda c: c.choices[0].token_ids.extend([1] * (LIMITS.message_bytes_max + 1)),
        Reason.FIELD_TOO_LARGE,
        "",
    ),
]


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [b[1:] for b in BAD_CONTINUATIONS],
    ids=[b[0] for b in BAD_CONTINUATIONS],
)
def test_bad_continuations_are_refused_with_reason_and_field(
    change: Callable[[Continuation], object], reason: Reason, field: str
) -> None:
    request = _good()
    change(_continued(request))
    with pytest.raises(InvalidRequest) as caught:
        validate_generate(request, LIMITS, may_continue=True)
    assert caught.value.reason is reason
    assert caught.value.field == ".".join(filter(None, ("continuation", field)))


def test_a_good_continuation_passes_from_a_router_alone() -> None:
    request = _good()
    _continued(request)
    validate_generate(request, LIMITS, may_continue=True)
    with pytest.raises(Forbidden) as caught:
        validate_generate(request, LIMITS)
    assert caught.value.reason is Reason.ROUTER_ONLY_FIELD


def test_what_a_router_adds_makes_no_request_too_large() -> None:
    limits = Limits(message_bytes_max=2000, prompt_bytes_max=2000)
    request = GenerateRequest(text="x" * (2000 - 3))
    validate_generate(request, limits)
    request.continuation.CopyFrom(
        Continuation(next_seq=1, attempt=1, choices=[{"token_ids": [1] * 1900}])
    )
    assert request.ByteSize() > 3900
    validate_generate(request, limits, may_continue=True)


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_or_validated_but_never_crash(payload: bytes) -> None:
    try:
        validate_generate(parse_message(GenerateRequest, payload), LIMITS)
    except LeptonError as error:
        assert isinstance(error, InvalidRequest | Unsupported | Forbidden)
        assert error.message


def test_invalid_utf8_is_a_malformed_message() -> None:
    payload = bytes([0x12, 2, 0xC3, 0x28])  # field 2 (model), two bytes that are not UTF-8
    with pytest.raises(InvalidRequest) as caught:
        parse_message(GenerateRequest, payload)
    assert caught.value.reason is Reason.MALFORMED_MESSAGE


@pytest.mark.parametrize("cls", [TokenizeRequest, CountTokensRequest])
def test_a_name_that_is_too_long_is_refused_by_every_method(
    cls: type[TokenizeRequest | CountTokensRequest],
) -> None:
    validate_tokenize(cls(text="x", model="m" * 128), LIMITS)
    with pytest.raises(InvalidRequest) as caught:
        validate_tokenize(cls(text="x", model="m" * 129), LIMITS)
    assert (caught.value.reason, caught.value.field) == (Reason.FIELD_TOO_LARGE, "model")
