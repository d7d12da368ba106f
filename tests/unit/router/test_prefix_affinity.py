"""Prompts that begin alike, over a policy as it runs: who gets them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from router.core.call import RoutingView
from router.core.endpoint import Endpoint
from router.core.policy.pipeline import Pipeline
from router.core.policy.prefix_table import PrefixTable
from router.core.policy.registry import POLICIES, make_policy
from router.core.policy.scorers.prefix import PrefixScorer
from tests.support.endpoints import make_endpoint
from tests.support.manual_clock import ManualClock
from tests.support.prompts import view_of_chat, view_of_text

DOCUMENT = "d" * 8192
IDLE = [make_endpoint(f"w{i}") for i in range(4)]


class Bench:
    """A policy, and endpoints that count what was sent to them since their last report."""

    def __init__(self, policy: str = "power_of_two", *, affinity: bool = True) -> None:
        self.clock = ManualClock()
        self.table = PrefixTable(bytes_max=1 << 20, ttl_s=600)
        scorer = PrefixScorer(self.table, self.clock) if affinity else None
        self.policy: Pipeline = make_policy(policy, Random(1), scorer)
        self.endpoints: list[Endpoint] = list(IDLE)

    def send(self, view: RoutingView, *, ends: bool = True) -> str:
        """The id of who got it; unless it `ends` it counts as in flight from then on."""
        choice = self.policy.choose(view, self.endpoints)
        assert choice is not None
        self.policy.routed(view, choice.endpoint)
        if not ends:
            index = [e.id for e in self.endpoints].index(choice.endpoint.id)
            busier = replace(choice.endpoint, in_flight=choice.endpoint.in_flight + 1)
            self.endpoints[index] = busier
        return choice.endpoint.id

    def load(self, endpoint_id: str, running: int) -> None:
        self.endpoints = [
            replace(e, load=replace(e.load, running=running)) if e.id == endpoint_id else e
            for e in self.endpoints
        ]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_burst_of_siblings_stays_together_before_any_report(policy: str) -> None:
    bench = Bench(policy)
    homes = {bench.send(view_of_text(DOCUMENT, f"question {n}"), ends=False) for n in range(4)}
    assert len(homes) == 1


def test_without_affinity_the_burst_scatters() -> None:
    """The control of the test above."""
    bench = Bench(affinity=False)
    assert len({bench.send(view_of_text(DOCUMENT, f"q {n}"), ends=False) for n in range(4)}) > 1


def test_the_home_is_found_among_a_thousand() -> None:
    bench = Bench()
    bench.endpoints = [make_endpoint(f"w{i}") for i in range(1000)]
    home = bench.send(view_of_text(DOCUMENT, "first"))
    assert {bench.send(view_of_text(DOCUMENT, f"q {n}")) for n in range(20)} == {home}


def test_different_prompts_spread() -> None:
    bench = Bench()
    homes = Counter(bench.send(view_of_text(f"{n}" * 4096)) for n in range(200))
    assert min(homes[e.id] for e in IDLE) > 25


def test_a_long_match_beats_moderate_load() -> None:
    bench = Bench()
    home = bench.send(view_of_text(DOCUMENT))
    bench.load(home, 3)
    assert bench.send(view_of_text(DOCUMENT, "more")) == home


def test_an_overloaded_home_is_a_stranger() -> None:
    bench = Bench()
    home = bench.send(view_of_text(DOCUMENT))
    bench.load(home, 12)
    assert {bench.send(view_of_text(DOCUMENT, f"{n}")) for n in range(3)}.isdisjoint({home})


def test_a_busy_home_among_busy_workers_is_not_overloaded() -> None:
    bench = Bench()
    home = bench.send(view_of_text(DOCUMENT))
    for endpoint in IDLE:
        bench.load(endpoint.id, 12)
    bench.load(home, 13)
    assert bench.send(view_of_text(DOCUMENT, "more")) == home


def test_a_popular_prefix_gets_more_homes_as_its_load_grows() -> None:
    bench = Bench()
    homes = Counter(bench.send(view_of_text(DOCUMENT, f"{n}"), ends=False) for n in range(64))
    assert len(homes) == 4
    assert max(homes.values()) <= 1.5 * 64 / 4


def test_calls_one_after_the_other_do_not_all_go_to_one_worker() -> None:
    """Everybody is idle at every choice; chats share most of their first prompt."""
    bench = Bench()
    system = "s:" + "x" * 4096
    work: Counter[str] = Counter()
    for chat in range(80):
        turns = [system, f"u:{chat}" + "y" * 1500]
        home = bench.send(view_of_chat(*turns))
        work[home] += 1
        for turn in range(2):
            turns += ["a:" + "z" * 300, f"u:{turn}" + "y" * 300]
            assert bench.send(view_of_chat(*turns)) == home, "a chat stays where it is"
    assert len(work) == 4
    assert max(work.values()) <= 1.5 * 80 / 4


def test_salt_and_bypass_keep_apart() -> None:
    bench = Bench()
    bench.endpoints = [make_endpoint(f"w{i}") for i in range(100)]
    home = bench.send(view_of_text(DOCUMENT))
    salted = view_of_text(DOCUMENT, cache={"salt": "other"})
    bypassing = view_of_text(DOCUMENT, cache={"bypass": True})
    for view in (salted, bypassing):
        told = bench.policy.explain(view, bench.endpoints)
        scores = {c.endpoint_id: c.scores["prefix"] for c in told.candidates}
        assert scores[home] <= min(scores.values()), "nothing speaks for it"


def test_a_restarted_worker_is_a_stranger() -> None:
    bench = Bench()
    home = bench.send(view_of_text(DOCUMENT))
    view = view_of_text(DOCUMENT, "more")
    bench.endpoints = [
        replace(e, incarnation=f"{e.id}-2") if e.id == home else e for e in bench.endpoints
    ]
    told = bench.policy.explain(view, bench.endpoints)
    assert len({c.scores["prefix"] for c in told.candidates}) == 1


def test_who_is_gone_is_forgotten() -> None:
    bench = Bench()
    home = bench.send(view_of_text(DOCUMENT))
    bench.policy.retain([e for e in IDLE if e.id != home])
    told = bench.policy.explain(view_of_text(DOCUMENT), bench.endpoints)
    assert len({c.scores["prefix"] for c in told.candidates}) == 1


def test_a_session_stays_home_and_a_longer_match_elsewhere_outweighs_it() -> None:
    bench = Bench()
    view = view_of_text("hello", session_key="alice")
    home = bench.send(view)
    assert {bench.send(view_of_text(f"hello {n}", session_key="alice")) for n in range(9)} == {home}
    other = next(e for e in IDLE if e.id != home)
    bench.endpoints = [other]
    bench.send(view_of_text(DOCUMENT))
    bench.endpoints = list(IDLE)
    assert bench.send(view_of_text(DOCUMENT, "more", session_key="alice")) == other.id


def test_choice_and_explanation_say_what_is_known() -> None:
    bench = Bench()
    home = bench.send(view_of_text(DOCUMENT))
    view = view_of_text(DOCUMENT, "more")
    told = {c.endpoint_id: c for c in bench.policy.explain(view, bench.endpoints).candidates}
    assert told[home].details["prefix"].startswith("8192 of 8196 bytes of the prompt are known")
    assert told[home].scores["prefix"] > 0.99
    choice = bench.policy.choose(view, bench.endpoints)
    assert choice is not None
    assert choice.endpoint.id == home
    assert bench.policy.routed(view, choice.endpoint) == 8192
    assert set(choice.scores) == {"load", "prefix", "kv_headroom", "session"}


def test_what_a_call_will_find_is_known_before_it_goes() -> None:
    bench = Bench()
    home = bench.send(view_of_text(DOCUMENT))
    view = view_of_text(DOCUMENT, "more")
    assert bench.policy.known_bytes(view, bench.endpoints) == 8192
    others = [e for e in bench.endpoints if e.id != home]
    assert bench.policy.known_bytes(view, others) == 0, "of another model, or gone"
    bench.load(home, 12)
    assert bench.policy.known_bytes(view, bench.endpoints) == 0, "it will not go there"


def test_a_choice_that_is_not_taken_leaves_no_trace() -> None:
    bench = Bench()
    view = view_of_text(DOCUMENT)
    for _ in range(3):
        assert bench.policy.choose(view, bench.endpoints) is not None
    told = bench.policy.explain(view, bench.endpoints).candidates
    assert all(c.details["prefix"].startswith("0 of") for c in told)


def test_explaining_changes_nothing() -> None:
    bench = Bench()
    for _ in range(3):
        told = bench.policy.explain(view_of_text(DOCUMENT), bench.endpoints)
        assert len({c.scores["prefix"] for c in told.candidates}) == 1
    assert len(bench.table) == 0
