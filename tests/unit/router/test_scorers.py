"""Each scorer as a table: what it is given, what it thinks."""

from __future__ import annotations

from typing import Any

import pytest

from router.core.call import RoutingView
from router.core.policy.scorers.kv_headroom import KvHeadroomScorer
from router.core.policy.scorers.load import LoadScorer
from router.core.policy.scorers.session import SessionScorer
from tests.support.endpoints import make_endpoint

VIEW = RoutingView(model="tiny")


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
