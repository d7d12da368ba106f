"""Filter, score, pick, and the explanation of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest

from common.errors import Conflict, Reason
from router.core.call import RoutingView
from router.core.endpoint import Endpoint, EndpointState
from router.core.policy.api import Scorer
from router.core.policy.filters import NotTried, Ready, ServesTask
from router.core.policy.pickers import Best, PowerOfTwo
from router.core.policy.pipeline import Pipeline
from router.core.policy.registry import POLICIES, make_policy
from tests.support.endpoints import make_endpoint

VIEW = RoutingView(model="tiny")
IDLE, BUSY = make_endpoint("idle"), make_endpoint("busy", running=8)


class Fixed(Scorer):
    """Gives out numbers by id."""

    name = "fixed"

    def __init__(self, scores: dict[str, float], nominee: Endpoint | None = None) -> None:
        self._scores = scores
        self._nominee = nominee

    def score(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> Sequence[float]:
        return [self._scores[e.id] for e in endpoints]

    def nominate(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> Endpoint | None:
        return self._nominee


def pipeline(*scorers: tuple[Fixed, float]) -> Pipeline:
    return Pipeline("test", filters=(Ready(),), scorers=scorers, picker=Best(Random(1)))


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_prefers_the_idle_one_of_two(name: str) -> None:
    policy = make_policy(name, Random(1))
    assert {policy.pick(VIEW, [IDLE, BUSY]) for _ in range(20)} == {IDLE}


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_spreads_over_equals(name: str) -> None:
    policy = make_policy(name, Random(1))
    equals = [make_endpoint(f"w{i}") for i in range(4)]
    picks = Counter(policy.pick(VIEW, equals) for _ in range(400))
    assert min(picks[e] for e in equals) > 50


def test_unknown_policy_is_refused_with_the_known_names() -> None:
    with pytest.raises(Conflict, match="power_of_two, least_loaded") as caught:
        make_policy("psychic", Random())
    assert caught.value.reason is Reason.SETTING_INVALID


@pytest.mark.parametrize("state", [s for s in EndpointState if s is not EndpointState.READY])
def test_only_ready_endpoints_are_picked(state: EndpointState) -> None:
    policy = make_policy("power_of_two", Random(1))
    assert policy.pick(VIEW, [make_endpoint("w1", state=state)]) is None
    assert policy.pick(VIEW, [make_endpoint("w1", state=state), BUSY]) is BUSY


def test_tasks_and_earlier_failures_rule_out() -> None:
    embed = make_endpoint("e", tasks=("embed",))
    assert list(ServesTask().keep(VIEW, [embed, IDLE], ())) == [IDLE]
    assert list(ServesTask().keep(RoutingView(model="m", task=""), [embed, IDLE], ())) == [
        embed,
        IDLE,
    ]
    assert list(NotTried().keep(VIEW, [IDLE, BUSY], {("idle", "idle-1")})) == [BUSY]
    assert list(NotTried().keep(VIEW, [IDLE], {("idle", "idle-0")})) == [IDLE]


def test_power_of_two_looks_at_two_different_ones_and_all_get_a_turn() -> None:
    picker = PowerOfTwo(Random(1))
    endpoints = [make_endpoint(f"w{i}") for i in range(5)]
    samples = [picker.sample(endpoints) for _ in range(300)]
    assert all(len({e.id for e in sample}) == 2 for sample in samples)
    assert {e.id for sample in samples for e in sample} == {e.id for e in endpoints}


def test_session_finds_its_home_among_many_unless_it_is_full() -> None:
    policy = make_policy("power_of_two", Random(1))
    view = RoutingView(model="tiny", session_key="alice")
    endpoints = [make_endpoint(f"w{i}") for i in range(50)]
    homes = {policy.pick(view, endpoints) for _ in range(50)}
    assert len(homes) == 1
    (home,) = homes
    assert home is not None
    full = [make_endpoint(e.id, running=8, waiting=8) if e.id == home.id else e for e in endpoints]
    assert all(getattr(policy.pick(view, full), "id", None) != home.id for _ in range(50))


def test_scores_are_clamped_so_that_none_outweighs_its_weight() -> None:
    loud, nan = Fixed({"idle": -5.0, "busy": 1e9}), Fixed({"idle": 1.0, "busy": float("nan")})
    assert pipeline((loud, 1.0), (nan, 2.0)).pick(VIEW, [IDLE, BUSY]) is IDLE


def test_nominated_endpoint_is_scored_although_the_sample_missed_it() -> None:
    endpoints = [make_endpoint(f"w{i}") for i in range(100)]
    scores = {e.id: 0.5 for e in endpoints} | {"w99": 1.0}
    policy = Pipeline(
        "test",
        filters=(),
        scorers=((Fixed(scores, nominee=endpoints[99]), 1.0),),
        picker=PowerOfTwo(Random(1)),
    )
    assert all(policy.pick(VIEW, endpoints) is endpoints[99] for _ in range(50))


def test_pipeline_needs_scorers_with_weights() -> None:
    with pytest.raises(ValueError, match="weight above 0"):
        pipeline()
    with pytest.raises(ValueError, match="weight above 0"):
        pipeline((Fixed({}), 0.0))


def test_explanation_says_every_candidate_score_and_reason() -> None:
    lost = make_endpoint("lost", state=EndpointState.LOST)
    tried = make_endpoint("tried")
    policy = make_policy("power_of_two", Random(1))
    told = policy.explain(VIEW, [lost, tried, IDLE, BUSY], {("tried", "tried-1")})
    by_id = {candidate.endpoint_id: candidate for candidate in told.candidates}
    assert list(by_id) == ["lost", "tried", "idle", "busy"]
    assert by_id["lost"].filtered_by == "not_ready"
    assert by_id["lost"].state is EndpointState.LOST
    assert by_id["tried"].filtered_by == "already_tried"
    assert by_id["busy"].scores["load"] == 0.5
    assert 0.0 <= by_id["busy"].total < by_id["idle"].total <= 1.0
    assert (told.policy, told.best) == ("power_of_two", "idle")


def test_explanation_of_nobody() -> None:
    assert make_policy("least_loaded", Random(1)).explain(VIEW, []).best is None


def test_repr_names_the_parts() -> None:
    assert "load×1" in repr(make_policy("power_of_two", Random(1)))
