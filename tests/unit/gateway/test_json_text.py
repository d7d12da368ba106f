"""Strict JSON: what Python's own reader lets through, and we do not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidRequest, Reason
from gateway.http.json_text import parse_json

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
_NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=20,
)


@given(_VALUES, st.booleans())
def test_what_is_json_is_read_as_it_is(value: Any, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert parse_json(body, depth_max=100, values_max=1_000_000) == value


@given(st.binary(max_size=40))
def test_bytes_are_a_value_or_our_error(body: bytes) -> None:
    try:
        parse_json(body, depth_max=5, values_max=1_000_000)
    except InvalidRequest as error:
        assert error.reason in {Reason.MALFORMED_MESSAGE, Reason.FIELD_NOT_FINITE}


@pytest.mark.parametrize("depth", [1, 99, 100, 101, 900, 250_000])
@pytest.mark.parametrize(("opens", "closes"), [("[", "]"), ('{"a":', "}")])
def test_depth_is_bounded(depth: int, opens: str, closes: str) -> None:
    body = (opens * depth + "1" + closes * depth).encode()
    if depth <= 100:
        parse_json(body, depth_max=100, values_max=1_000_000)
        return
    with pytest.raises(InvalidRequest, match="nested deeper than 100"):
        parse_json(body, depth_max=100, values_max=1_000_000)


def test_a_text_with_many_brackets_is_not_deep() -> None:
    assert (
        parse_json(json.dumps("[" * 500).encode(), depth_max=5, values_max=1_000_000) == "[" * 500
    )


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b'{"a":1,"b":2,"a":3}', "'a' stands twice"),
        (b'["\\ud800"]', "surrogate"),
        (b'{"\\uD83D":1}', "surrogate"),
        (b'{"a":"\xed\xa0\x80"}', "not UTF-8"),
        (b"1 2", "not JSON"),
        (b"[1,]", "not JSON"),
        (b"[Infinity]", "no number"),
        (b"[-1e400]", "too large"),
        (b"[" + b"1" * 41 + b"]", "digits"),
        (b"", "empty"),
    ],
)
def test_what_is_refused(body: bytes, word: str) -> None:
    with pytest.raises(InvalidRequest, match=word):
        parse_json(body, depth_max=100, values_max=1_000_000)


def test_whole_pairs_of_surrogates_are_one_character() -> None:
    assert parse_json(b'"\\ud83d\\ude00"', depth_max=100, values_max=1_000_000) == "\U0001f600"


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"1," * 1000 + b"1]",
        b"[" + b"[]," * 500 + b"[]]",
        b'{"a":[' + b"{}," * 1000 + b"{}]}",
        b"[" + b'"\\"",' * 1000 + b'""]',
        b"[" + b'"",' * 100_000 + b'""]',
        b'["' + b"\\\\" + b'",' + b"1," * 1000 + b"1]",
    ],
)
def test_values_are_counted_before_they_are_made(body: bytes) -> None:
    json.loads(body)
    with pytest.raises(InvalidRequest, match="more than 900 values") as refused:
        parse_json(body, depth_max=100, values_max=900)
    assert refused.value.reason is Reason.BODY_TOO_LARGE


@given(st.text(st.sampled_from('",[{\\\n')), st.integers(1, 5))
def test_texts_may_have_any_characters(text: str, count: int) -> None:
    value = [text * 20] * count
    assert parse_json(json.dumps(value).encode(), depth_max=2, values_max=count + 1) == value
