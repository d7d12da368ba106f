"""A seed is a schedule."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from chaos.faults import FAULTS
from chaos.schedule import BASIC, drawn, pairs


@given(st.integers(0, 1 << 30), st.integers(1, 40))
def test_a_seed_draws_the_same_again_and_never_three_at_once(seed: int, num: int) -> None:
    scenario = drawn(seed, num)
    assert scenario == drawn(seed, num)
    real = [one for one in scenario.fault if one.do != "nothing"]
    assert len(real) == num
    for first, second in itertools.pairwise(real):
        assert not (first.meanwhile and second.meanwhile)


def test_seeds_differ() -> None:
    assert len({repr(drawn(seed, 10).fault) for seed in range(20)}) == 20


def test_all_pairs_come_once() -> None:
    found = list(pairs())
    assert len(found) == len(BASIC) * (len(BASIC) - 1) // 2
    assert all(one.do in FAULTS for scenario in found for one in scenario.fault)
