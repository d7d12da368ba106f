"""The index of endpoints against looking at all of them."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.core.call import RoutingView
from router.core.candidates import Candidates, by_revision, find, work_of
from router.core.endpoint import Endpoint, EndpointState
from router.core.index import EndpointIndex
from router.core.policy.filters import Ready, ServesTask
from tests.support.endpoints import make_endpoint

TASKS = ("generate", "embed")
REVISIONS = ("aaaaaaaa", "bbbbbbbb")


@st.composite
def pictures(draw: st.DrawFn) -> Endpoint:
    name = draw(st.sampled_from(["w1", "w2", "w3", "w4"]))
    return make_endpoint(
        name,
        model="m" if name != "w4" else "other",
        revision=draw(st.sampled_from(REVISIONS)),
        state=draw(st.sampled_from(EndpointState)),
        tasks=draw(st.sampled_from([(), ("generate",), TASKS, ("embed", "embed")])),
        running=draw(st.integers(0, 9)),
        in_flight=draw(st.integers(0, 9)),
    )


def ready(endpoints: Sequence[Endpoint], task: str) -> list[Endpoint]:
    """What the filters find by looking at all."""
    view = RoutingView(model="m", task=task)
    return list(ServesTask().keep(view, Ready().keep(view, endpoints, ()), ()))


def check(candidates: Candidates) -> None:
    for task in TASKS:
        found = candidates.ready_for(task)
        wanted = ready(candidates, task)
        assert sorted(e.id for e in found) == sorted(e.id for e in wanted)
        assert found.sequences == sum(map(work_of, wanted))
        assert found.rows == sum(max(1, e.load.rows_max) for e in wanted)
        for endpoint in candidates:
            assert find(found, endpoint.id) is (endpoint if endpoint in wanted else None)


class IndexMachine(RuleBasedStateMachine):
    """Endpoints come, change in every way, and go; what was frozen stays as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.index = EndpointIndex()
        self.known: dict[str, Endpoint] = {}
        self.frozen: list[tuple[Candidates, list[Endpoint], list[Endpoint]]] = []

    @rule(endpoint=pictures())
    def put(self, endpoint: Endpoint) -> None:
        self.index.put(endpoint)
        self.known[endpoint.id] = endpoint

    @rule(name=st.sampled_from(["w1", "w2", "w3", "w4"]))
    def remove(self, name: str) -> None:
        if (endpoint := self.known.pop(name, None)) is not None:
            self.index.remove(endpoint)

    @rule()
    def freeze(self) -> None:
        for candidates in self.index.freeze().values():
            taken = (candidates, list(candidates), list(candidates.ready_for("generate")))
            self.frozen = [*self.frozen[-5:], taken]

    @invariant()
    def it_equals_looking_at_all(self) -> None:
        models = self.index.freeze()
        assert models is self.index.freeze()
        assert {e.id: e for c in models.values() for e in c} == self.known
        for candidates in models.values():
            check(candidates)
            plain = by_revision(list(candidates))
            assert set(candidates.revisions) == set(plain)
            for revision, group in candidates.revisions.items():
                assert {e.id for e in group} == {e.id for e in plain[revision]}
                assert isinstance(group, Candidates)
                check(group)

    @invariant()
    def what_was_frozen_stays(self) -> None:
        for candidates, everyone, takers in self.frozen:
            assert list(candidates) == everyone
            found = candidates.ready_for("generate")
            assert list(found) == takers
            assert all(find(found, e.id) is e for e in takers)


TestIndex = IndexMachine.TestCase
TestIndex.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(st.lists(pictures(), max_size=4, unique_by=lambda e: e.id))
def test_order_of_arrival_is_kept(endpoints: list[Endpoint]) -> None:
    index = EndpointIndex()
    for endpoint in (*endpoints, *endpoints):
        index.put(endpoint)
    everyone = [e for candidates in index.freeze().values() for e in candidates]
    assert sorted(everyone, key=endpoints.index) == everyone or len(index.freeze()) > 1
