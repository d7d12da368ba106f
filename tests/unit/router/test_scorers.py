"""Each scorer as a table: what it is given, what it thinks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.call import RoutingView
from router.core.policy.scorers.kv_headroom import KvHeadroomScorer
from router.core.policy.scorers.load import LoadScorer
from router.core.policy.scorers.session import SessionScorer
from tests.support.endpoints import make_endpoint

VIEW = RoutingView(model="tiny")


def loads(*endpoints: dict[str, Any]) -> list[float]:
    named = [make_endpoint(f"w{i}", **fields) for i, fields in enumerate(endpoints)]
    return list(LoadScorer().score(VIEW, named))


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ({}, 1.0),
        ({"running": 8}, 1 / 2),
        ({"running": 4, "waiting": 4}, 1 / 2),
        ({"running": 8, "waiting": 16}, 1 / 4),
        ({"running": 8, "rows_max": 16}, 2 / 3),
        ({"waiting_tokens": 8 * 512}, 1 / 2),
        ({"in_flight": 8}, 1 / 2),
        ({"in_flight": 8, "running": 8, "in_flight_of_router": 8}, 1 / 2),
        ({"in_flight": 2, "running": 8, "in_flight_of_router": 8}, 4 / 5),  # six have ended since
        ({"in_flight": 2, "running": 8, "in_flight_of_router": 4}, 4 / 7),
        ({"running": 1, "rows_max": 0}, 1 / 2),
    ],
)
def test_load_is_work_per_row(endpoint: dict[str, Any], expected: float) -> None:
    (score,) = LoadScorer().score(VIEW, [make_endpoint(**endpoint)])
    assert score == pytest.approx(expected)


def fast(**fields: Any) -> dict[str, Any]:
    return {"prefill_tokens_per_s": 1000, "decode_tokens_per_s": 50, "decode_rows": 1} | fields


def slow(**fields: Any) -> dict[str, Any]:
    return fast(prefill_tokens_per_s=100, decode_tokens_per_s=5) | fields


def test_a_worker_ten_times_slower_takes_ten_times_as_long() -> None:
    assert loads(fast(), slow()) == [1.0, pytest.approx(0.1, rel=0.25)]
    first, second = loads(fast(running=8, waiting=16), slow())
    assert first > second, "and is no help in a rush"
    first, second = loads(fast(running=8, waiting=160), slow())
    assert first < second, "unless it is a great one"


def test_speeds_are_compared_for_the_same_number_of_rows() -> None:
    """What one of eight sequences gets is less than what one alone gets."""
    alone, among = loads(fast(), fast(decode_tokens_per_s=50 * 4 / 11, decode_rows=8))
    assert alone == among == 1.0


def test_who_is_busy_is_not_taken_for_fast() -> None:
    """On a processor that computes many rows as fast as one, each sequence gets as much in either batch."""
    assert loads(fast(decode_rows=25), fast(decode_rows=2)) == [1.0, 1.0]
    assert loads(fast(decode_rows=25), slow(decode_rows=2))[1] < 0.2, (
        "ten times slower is slower all the same"
    )


def test_a_little_noise_in_the_speed_is_none() -> None:
    assert loads(fast(), fast(decode_tokens_per_s=51, prefill_tokens_per_s=1010)) == [1.0, 1.0]


def test_unknown_and_old_speeds_are_those_of_the_others() -> None:
    assert loads(fast(), {}) == [1.0, 1.0]
    assert loads(slow(), {}) == [1.0, 1.0]
    assert loads(fast(), slow(idle_s=11)) == [1.0, 1.0], "it is tried again"
    assert loads(fast(), slow(idle_s=1))[1] < 0.2


def test_a_cold_worker_seems_to_have_fewer_rows() -> None:
    assert loads({}, {"warmth": 0.25}) == [1.0, 1.0]
    busy = {"rows_max": 8, "running": 2}
    warm, cold = loads(busy, {**busy, "warmth": 0.25})
    assert (warm, cold) == (0.8, 0.5), "as if eight of eight rows ran"


@given(
    endpoints=st.lists(
        st.fixed_dictionaries(
            {
                "running": st.integers(0, 64),
                "waiting": st.integers(0, 10**6),
                "waiting_tokens": st.integers(0, 2**40),
                "rows_max": st.integers(0, 64),
                "in_flight": st.integers(0, 5000),
                "prefill_tokens_per_s": st.floats(0, 3e38),
                "decode_tokens_per_s": st.floats(0, 3e38),
                "decode_rows": st.integers(0, 2**32 - 1),
                "idle_s": st.floats(0, 100),
                "warmth": st.floats(0.1, 1),
            }
        ),
        min_size=1,
        max_size=5,
    )
)
def test_whatever_workers_report_is_a_score(endpoints: list[dict[str, Any]]) -> None:
    scores = loads(*endpoints)
    assert all(0 < score <= 1 for score in scores)


@pytest.mark.parametrize(("kv_usage", "expected"), [(0.0, 1.0), (0.25, 0.75), (1.0, 0.0)])
def test_kv_headroom_is_the_free_share(kv_usage: float, expected: float) -> None:
    assert KvHeadroomScorer().score(VIEW, [make_endpoint(kv_usage=kv_usage)]) == [expected]


def test_without_a_session_nobody_is_home() -> None:
    endpoints = [make_endpoint("w1"), make_endpoint("w2")]
    assert SessionScorer().score(VIEW, endpoints) == [0.0, 0.0]
    assert SessionScorer().nominate(VIEW, endpoints) is None


def test_session_has_one_home_whatever_the_order() -> None:
    endpoints = [make_endpoint(f"w{i}") for i in range(5)]
    view = RoutingView(model="tiny", session_key="alice")
    home = SessionScorer().nominate(view, endpoints)
    assert home is SessionScorer().nominate(view, endpoints[::-1])
    assert sum(SessionScorer().score(view, endpoints)) == 1.0


def test_only_the_sessions_of_a_worker_that_leaves_move() -> None:
    endpoints = [make_endpoint(f"w{i}") for i in range(5)]
    views = [RoutingView(model="tiny", session_key=f"user-{i}") for i in range(200)]
    scorer = SessionScorer()
    for view in views:
        before, after = scorer.nominate(view, endpoints), scorer.nominate(view, endpoints[1:])
        assert after is before or before is endpoints[0]
    homes = {scorer.nominate(view, endpoints).id for view in views}  # type: ignore[union-attr]
    assert len(homes) == 5, "everybody gets some"
