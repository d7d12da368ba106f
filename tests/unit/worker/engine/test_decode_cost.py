"""What decoding is expected to take, by rows and by how far they look back."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.decode_cost import DecodeCost, Decoding

BASE_S, TOKEN_S = 0.004, 7e-7
"""Eight rows of a small model on two cores: 4 ms, and 4 ms more at 700 tokens each."""


def true_s(tokens: int) -> float:
    return BASE_S + TOKEN_S * tokens


def grow(
    cost: DecodeCost, steps: int, *, tokens: int = 300, noise: float = 0.0, slope_s: float = TOKEN_S
) -> int:
    """Eight rows that get a token in each step; returns how many tokens they have then."""
    rng = random.Random(1)
    for _ in range(steps):
        seconds = BASE_S + slope_s * tokens
        cost.observe(Decoding(8, tokens), seconds * (1 + noise * rng.uniform(-1, 1)))
        tokens += 8
    return tokens


def test_nothing_is_known_at_first_and_nothing_takes_nothing() -> None:
    cost = DecodeCost()
    assert not cost.is_measured
    assert cost.seconds(Decoding(8, 100)) == 0
    grow(cost, 1)
    assert cost.is_measured
    assert cost.seconds(Decoding(0)) == 0
    assert (cost.mean_s(8), cost.mean_s(7)) == (pytest.approx(true_s(300)), None)


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_rows_that_grew_unseen_are_expected_to_take_longer(noise: float) -> None:
    """Beside a long prompt they get another 600 tokens each, and no step that only decodes."""
    cost = DecodeCost()
    tokens = grow(cost, 600, noise=noise)
    later = tokens + 8 * 600
    assert cost.seconds(Decoding(8, later)) == pytest.approx(true_s(later), rel=0.1)


def test_new_rows_are_not_expected_to_take_what_old_ones_took() -> None:
    cost = DecodeCost()
    tokens = grow(cost, 600, noise=0.2)
    assert cost.seconds(Decoding(8, 300)) == pytest.approx(true_s(300), rel=0.15)
    assert cost.seconds(Decoding(8, 300)) < 0.8 * cost.seconds(Decoding(8, tokens))


def test_rows_whose_length_does_not_matter_cost_the_same_at_any() -> None:
    cost = DecodeCost()
    tokens = grow(cost, 600, noise=0.2, slope_s=0.0)
    assert cost.seconds(Decoding(8, 2 * tokens)) == pytest.approx(BASE_S, rel=0.15)


def test_a_step_that_was_held_up_does_not_turn_the_price() -> None:
    cost = DecodeCost()
    tokens = grow(cost, 600)
    cost.observe(Decoding(8, tokens), 100 * BASE_S)
    tokens = grow(cost, 30, tokens=tokens + 8)
    assert cost.seconds(Decoding(8, tokens + 4800)) == pytest.approx(
        true_s(tokens + 4800), rel=0.15
    )


@given(
    steps=st.lists(
        st.tuples(st.integers(1, 4), st.integers(0, 10**6), st.floats(1e-6, 10)), min_size=1
    ),
    rows=st.integers(1, 6),
    tokens=st.integers(0, 10**6),
)
def test_every_expectation_is_above_nothing_and_grows_with_tokens_at_most_in_proportion(
    steps: list[tuple[int, int, float]], rows: int, tokens: int
) -> None:
    cost = DecodeCost()
    for number, length, duration_s in steps:
        cost.observe(Decoding(number, length), duration_s)
    found = cost.seconds(Decoding(rows, tokens))
    assert found > 0
    assert found <= cost.seconds(Decoding(rows, tokens + 100))
    assert cost.seconds(Decoding(rows, 2 * tokens)) <= 2 * found * (1 + 1e-9)
