"""The rule by which memory is called flat, on series that were made to be known."""

from __future__ import annotations

import math
import random

import pytest

from loadtest.soak.flat import Point, flatness

MB = 1_000_000
LIMIT = 256.0


def series(
    growth: float,
    *,
    rounds: int = 200,
    seed: int = 1,
    noise: float = 8 * MB,
    warm_up: float = 40 * MB,
) -> list[Point]:
    """100 calls a round; `growth` bytes a call under an allocator that gives back late, after a warm-up."""
    rng, points = random.Random(seed), []
    for number in range(rounds):
        requests = 100 * (number + 1)
        level = 150 * MB + warm_up * (1 - math.exp(-20 * number / rounds)) + growth * requests
        points.append(
            Point(requests, int(level + rng.choice((0, 0, 1, 2)) * noise + rng.gauss(0, 0.1 * MB)))
        )
    return points


@pytest.mark.parametrize("seed", range(10))
def test_noise_and_a_warm_up_are_no_leak(seed: int) -> None:
    judged = flatness(series(0, seed=seed), limit=LIMIT)
    assert judged.verdict == "flat"
    assert judged.low <= judged.slope <= judged.high < LIMIT


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("growth", [1024, 8192])
def test_a_kilobyte_a_call_is_one(growth: int, seed: int) -> None:
    judged = flatness(series(growth, seed=seed), limit=LIMIT)
    assert judged.verdict == "leaks"
    assert judged.low > LIMIT
    assert judged.slope == pytest.approx(growth, rel=0.3)


def test_memory_that_shrinks_is_flat() -> None:
    assert flatness(series(-2000), limit=LIMIT).verdict == "flat"


def test_what_cannot_be_told_is_not_called_flat() -> None:
    """Few rounds and much noise: neither verdict would be honest."""
    verdicts = {
        flatness(series(0, rounds=14, seed=seed, noise=30 * MB), limit=LIMIT).verdict
        for seed in range(20)
    }
    assert "unclear" in verdicts
    with pytest.raises(ValueError, match="too few"):
        flatness(series(0, rounds=5), limit=LIMIT)


def test_as_many_calls_as_one_likes_may_warm_up() -> None:
    points = [Point(p.requests, p.rss + min(p.requests, 15_000) * 1024) for p in series(0)]
    assert flatness(points, limit=LIMIT).verdict == "leaks"
    assert flatness(points, limit=LIMIT, warm_up=15_000).verdict == "flat"
    with pytest.raises(ValueError, match="after the warm-up"):
        flatness(points, limit=LIMIT, warm_up=19_900)


def test_a_leak_in_the_warm_up_alone_does_not_count_and_one_after_it_does() -> None:
    grown = [
        Point(p.requests, p.rss + (40 * MB if at > 20 else 2 * MB * at))
        for at, p in enumerate(series(0))
    ]
    assert flatness(grown, limit=LIMIT).verdict == "flat"
    late = [Point(p.requests, p.rss + max(0, p.requests - 8000) * 2048) for p in series(0)]
    assert flatness(late, limit=LIMIT).verdict == "leaks"
