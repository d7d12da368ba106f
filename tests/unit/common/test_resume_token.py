"""Tokens lead back for their caller only, and say nothing to anybody else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from common.errors import NotFound, Reason
from common.request.fingerprint import fingerprint_of
from common.resume_token import ResumePoint, ResumeTokens, new_call_id
from lepton.v1 import inference_pb2

TOKENS = ResumeTokens(SecretStr("sesame"))
POINT = ResumePoint(worker_id="worker-1", call_id=b"0123456789abcdef")


def refusal(tokens: ResumeTokens, token: str, caller: str = "") -> NotFound:
    with pytest.raises(NotFound) as refused:
        tokens.read(token, caller)
    assert refused.value.reason is Reason.RESUME_NOT_FOUND
    return refused.value


@given(st.text(max_size=128), st.binary(min_size=16, max_size=16), st.text(max_size=40))
def test_a_token_leads_back(worker_id: str, call_id: bytes, caller: str) -> None:
    if not _encodable(worker_id):
        return
    point = ResumePoint(worker_id=worker_id, call_id=call_id)
    assert TOKENS.read(TOKENS.make(point, caller), caller) == point


@given(st.text(max_size=200))
def test_whatever_is_no_token_is_refused(text: str) -> None:
    refusal(TOKENS, text)


@given(st.data())
def test_no_changed_bit_goes_unnoticed(data: st.DataObject) -> None:
    token = TOKENS.make(POINT, "alice")
    packed = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    bit = data.draw(st.integers(0, len(packed) * 8 - 1))
    packed[bit // 8] ^= 1 << bit % 8
    refusal(TOKENS, base64.urlsafe_b64encode(bytes(packed)).rstrip(b"=").decode(), "alice")


@pytest.mark.parametrize(
    ("tokens", "caller"),
    [
        (TOKENS, "bob"),
        (TOKENS, ""),
        (ResumeTokens(SecretStr("other")), "alice"),
        (ResumeTokens(SecretStr("")), "alice"),
    ],
)
def test_the_refusal_does_not_tell_why(tokens: ResumeTokens, caller: str) -> None:
    foreign = refusal(tokens, TOKENS.make(POINT, "alice"), caller)
    unknown = refusal(TOKENS, "made-up")
    assert (foreign.message, foreign.field) == (unknown.message, unknown.field)


def test_ids_do_not_repeat() -> None:
    assert len({new_call_id() for _ in range(100)}) == 100


def test_the_fingerprint_leaves_names_out_and_nothing_else() -> None:
    request = inference_pb2.GenerateRequest(text="hello")
    same = fingerprint_of(request)
    named = inference_pb2.GenerateRequest(text="hello", request_id="r", idempotency_key="k")
    named.resume.resume_token = "t"
    assert fingerprint_of(named) == same
    assert named.request_id == "r", "the request itself is left alone"
    for other in (
        {"text": "hullo"},
        {"text": "hello", "session_key": "s"},
        {"text": "hello", "resumable_ms": 5},
    ):
        assert fingerprint_of(inference_pb2.GenerateRequest(**other)) != same


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
