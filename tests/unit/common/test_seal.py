"""What was sealed comes back unchanged, for its caller and its purpose, or not at all."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from common.seal import Seal

SEAL = Seal(SecretStr("sesame"), "test")


@given(st.binary(max_size=64), st.text(max_size=20))
def test_what_was_sealed_comes_back_for_its_caller_only(body: bytes, caller: str) -> None:
    text = SEAL.close(body, caller)
    assert SEAL.open(text, caller) == body
    assert SEAL.open(text, caller + "x") is None
    assert Seal(SecretStr("sesame"), "another").open(text, caller) is None
    assert Seal(SecretStr("another"), "test").open(text, caller) is None


@given(st.binary(max_size=64), st.integers(min_value=0), st.integers(1, 255))
def test_no_bit_may_change(body: bytes, place: int, flip: int) -> None:
    packed = bytearray(base64.urlsafe_b64decode(SEAL.close(body, "") + "=="))
    packed[place % len(packed)] ^= flip
    assert SEAL.open(base64.urlsafe_b64encode(packed).decode().rstrip("="), "") is None


@given(st.text(max_size=100))
def test_whatever_was_not_sealed_is_not_opened(text: str) -> None:
    assert SEAL.open(text, "") is None
