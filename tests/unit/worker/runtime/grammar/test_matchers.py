"""What may come next, against references that share nothing with llguidance."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.errors import InvalidRequest, Reason
from tests.support.grammars import BYTES, EOS, allowed_ids, compiled, lark, literals, regex
from worker.runtime.grammar.limits import GrammarLimits

TOKENS = [(i, token) for i, token in enumerate(BYTES.token_bytes) if token and i not in (256, 257)]

texts = st.text(st.sampled_from('ab"\\/#\n\r\t\x00\x7f é😀\u2028{}[]()|*'), min_size=1, max_size=6)


@given(st.lists(texts, min_size=1, max_size=8, unique=True), st.randoms(use_true_random=False))
@example(["abc", "ab", "a"], random.Random(0))
def test_literals_allow_exactly_what_leads_to_one_of_them(
    choices: list[str], rng: random.Random
) -> None:
    ends = {text.encode() for text in choices}
    matcher, so_far = compiled(literals(*choices)).new_matcher(), b""
    while True:
        expected = {
            token_id
            for token_id, token in TOKENS
            if any(end.startswith(so_far + token) for end in ends)
        }
        if so_far in ends:
            expected.add(EOS)
        assert allowed_ids(matcher) == expected
        assert all(matcher.allows(i) == (i in expected) for i in rng.sample(range(260), 20))
        if expected <= {EOS}:
            return
        token_id = rng.choice(sorted(expected - {EOS}))
        so_far += BYTES.token_bytes[token_id]
        is_complete = matcher.advance(token_id)
        assert is_complete == (
            so_far in ends and not any(e != so_far and e.startswith(so_far) for e in ends)
        )


EXPRESSIONS = [
    r"",
    r"[a-c]{2,4}|x",
    r"(ab?)*c?",
    r"\d{1,3}(\.\d+)?",
    r"\w+@\w+\.(com|org)",
    r"a/b\\c#(d|\n)",
    r"(?i)yes|no",
    r"[^\s\d]{1,5}",
    r"(0|[1-9]\d*)(e[+-]?\d{1,2})?",
    r".{0,3}\.?",
]


@given(st.sampled_from(EXPRESSIONS), st.randoms(use_true_random=False))
def test_the_end_is_allowed_exactly_where_an_expression_matches(
    expression: str, rng: random.Random
) -> None:
    """Against `re`, ASCII, along random ways through the mask."""
    matcher, text = compiled(regex(expression)).new_matcher(), b""
    pattern = re.compile(expression.encode())
    for _ in range(30):
        allowed = allowed_ids(matcher)
        ascii_ids = sorted(i for i in allowed if i < 128 or i == 259)
        if (
            rng.random() < 0.5
        ):  # digits and word characters are ASCII, as for bytes in `re`; the rest is UTF-8
            assert (EOS in allowed) == (pattern.fullmatch(text) is not None)
        if not ascii_ids:
            return
        token_id = rng.choice(ascii_ids)
        text += BYTES.token_bytes[token_id]
        if matcher.advance(token_id):
            assert pattern.fullmatch(text)
            return


def test_control_tokens_are_no_text_but_a_grammar_may_name_them() -> None:
    anything = compiled(regex("(?s).*")).new_matcher()
    assert {EOS, 257, 258} & allowed_ids(anything) == {EOS}
    named = compiled(lark("start: /a/ <tool> /b/")).new_matcher()
    assert not named.advance(97)
    assert allowed_ids(named) == {257}
    assert not named.advance(257)
    assert allowed_ids(named) == {98}
    spelled = compiled(literals("<tool>")).new_matcher()
    assert allowed_ids(spelled) == {ord("<")}


def test_a_matcher_rebuilt_from_its_ids_is_the_same() -> None:
    """What a worker does that takes a stream over."""
    grammar = compiled(regex(r"[a-z]+( [0-9]{2})*"))
    ids: list[int] = []
    walking = grammar.new_matcher()
    rng = random.Random(3)
    for _ in range(20):
        rebuilt = grammar.new_matcher(ids)
        allowed = allowed_ids(walking)
        assert allowed_ids(rebuilt) == allowed
        token_id = rng.choice(sorted(allowed - {EOS}))
        ids.append(token_id)
        walking.advance(token_id)


def test_ids_that_do_not_follow_are_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        compiled(regex("ab")).new_matcher([97, 97])
    assert caught.value.reason is Reason.GRAMMAR_UNSATISFIABLE


def test_matchers_of_one_grammar_stand_where_they_are() -> None:
    grammar = compiled(regex("[a-z]{3}"))
    first, second = grammar.new_matcher(), grammar.new_matcher()
    first.advance(97)
    first.advance(98)
    assert first.advance(99)
    assert not second.advance(97)
    assert EOS not in allowed_ids(second)
    assert allowed_ids(first) == {EOS}


def test_a_mask_that_fails_unexpectedly_leaves_nobody_waiting() -> None:
    matcher = compiled(regex("ab")).new_matcher()

    class Broken:
        def compute_bitmask(self) -> bytes:
            raise SystemExit("as a panic of the library, no `Exception`")

    matcher._matcher = Broken()
    matcher._begin()
    with pytest.raises(InvalidRequest, match="no `Exception`"):
        matcher.allowed()


def test_a_lexer_that_grows_too_large_ends_its_own_request_only() -> None:
    """Each request compiles anew: copies within one share a lexer, and thus its end."""
    expression, limits = regex("(a|b)*a(a|b){40}c"), GrammarLimits(states_max=300)

    def walk() -> int:
        rng = random.Random(5)
        matcher = compiled(expression, limits=limits).new_matcher()
        for step in range(1000):
            try:
                matcher.allowed()
                matcher.advance(rng.choice((97, 98)))
            except InvalidRequest as error:
                assert error.reason is Reason.GRAMMAR_TOO_LARGE
                assert error.field == "constraint.regex"
                return step
        return -1

    steps = walk()
    assert steps > 50
    assert walk() == steps
