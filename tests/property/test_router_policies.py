"""What holds for every policy of the registry, whatever the endpoints."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.request.prompt_prefix import NO_PREFIX, PromptPrefix
from router.core.call import RoutingView
from router.core.endpoint import Endpoint, EndpointState
from router.core.policy.prefix_table import PrefixTable
from router.core.policy.registry import POLICIES, make_policy
from router.core.policy.scorers.prefix import PrefixScorer
from tests.support.endpoints import make_endpoint
from tests.support.manual_clock import ManualClock


@st.composite
def endpoints(draw: st.DrawFn) -> list[Endpoint]:
    return [
        make_endpoint(
            f"w{index}",
            state=draw(st.sampled_from(EndpointState)),
            tasks=draw(st.sampled_from([("generate",), ("embed",), ("generate", "embed"), ()])),
            running=draw(st.integers(0, 1000)),
            waiting=draw(st.integers(0, 10**6)),
            waiting_tokens=draw(st.integers(0, 2**40)),
            rows_max=draw(st.integers(0, 512)),
            kv_usage=draw(st.floats(allow_nan=True, allow_infinity=True, width=32)),
            in_flight=draw(st.integers(0, 5000)),
            in_flight_of_router=draw(st.integers(0, 5000)),
        )
        for index in range(draw(st.integers(0, 8)))
    ]


views = st.builds(
    RoutingView,
    model=st.just("tiny"),
    session_key=st.text(max_size=20),
    prefix=st.sampled_from(
        [NO_PREFIX, PromptPrefix(hashes=(1, 2), ends=(512, 600), is_whole=True)]
    ),
    task=st.sampled_from(["", "generate", "embed"]),
)
tried_ids = st.frozensets(st.sampled_from([(f"w{i}", f"w{i}-1") for i in range(8)]))


@pytest.mark.parametrize("name", POLICIES)
@given(
    candidates=endpoints(), view=views, tried=tried_ids, seed=st.integers(0, 2**32), data=st.data()
)
def test_pick_is_allowed_and_explained(
    name: str,
    candidates: list[Endpoint],
    view: RoutingView,
    tried: frozenset[tuple[str, str]],
    seed: int,
    data: st.DataObject,
) -> None:
    """Never a filtered endpoint; somebody whenever somebody is left; the explanation agrees."""
    prefix = PrefixScorer(PrefixTable(bytes_max=1 << 16, ttl_s=60), ManualClock())
    policy = make_policy(name, Random(seed), prefix)
    for _ in range(data.draw(st.integers(0, 2))):
        policy.pick(view, candidates)
    allowed = {
        e.id
        for e in candidates
        if e.state is EndpointState.READY
        and (not view.task or view.task in e.tasks)
        and (e.id, e.incarnation) not in tried
    }
    picked = policy.pick(view, candidates, tried)
    assert (picked.id if picked else None) in (allowed or {None})
    told = policy.explain(view, candidates, tried)
    assert [c.endpoint_id for c in told.candidates] == [e.id for e in candidates]
    assert {c.endpoint_id for c in told.candidates if c.filtered_by is None} == allowed
    for candidate in told.candidates:
        assert 0.0 <= candidate.total <= 1.0
        assert all(0.0 <= score <= 1.0 for score in candidate.scores.values())
        assert bool(candidate.scores) is (candidate.filtered_by is None)
    assert (told.best in allowed) if allowed else told.best is None


@given(
    loads=st.lists(st.integers(0, 1000), min_size=2, max_size=6, unique=True),
    seed=st.integers(0, 2**32),
)
def test_the_busiest_of_all_is_never_picked(loads: list[int], seed: int) -> None:
    """Two different endpoints are compared, so the worst always loses."""
    policy = make_policy("power_of_two", Random(seed))
    candidates = [make_endpoint(f"w{i}", running=load) for i, load in enumerate(loads)]
    busiest = max(candidates, key=lambda e: e.load.running)
    assert policy.pick(RoutingView(model="tiny"), candidates) is not busiest
