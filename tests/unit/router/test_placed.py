"""Calls that have a place already, and calls that meet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

from router.core.call import RoutingView
from router.core.endpoint import Endpoint, EndpointState
from router.core.policy.api import Tried
from router.core.policy.placed import PlacedPolicy
from router.core.policy.registry import make_policy
from tests.support.endpoints import make_endpoint

POLICY = PlacedPolicy(make_policy("least_loaded", Random(0)))

WORKERS = [make_endpoint(f"w{i}") for i in range(5)]


def pick(view: RoutingView, endpoints: Sequence[Endpoint], tried: Tried = ()) -> Endpoint | None:
    choice = POLICY.choose(view, endpoints, tried)
    return choice.endpoint if choice else None


def view(**fields: object) -> RoutingView:
    return RoutingView(model="tiny", **fields)  # type: ignore[arg-type]


def key(number: int) -> bytes:
    return number.to_bytes(4, "big")


def test_the_holder_comes_first_in_whatever_state() -> None:
    for state in EndpointState:
        workers = [*WORKERS, make_endpoint("held", state=state)]
        picked = pick(view(holder="held", only_holder=True), workers)
        assert picked is workers[-1]


def test_without_its_only_holder_a_call_has_no_place() -> None:
    assert pick(view(holder="gone", only_holder=True), WORKERS) is None


def test_a_holder_that_failed_or_left_is_replaced() -> None:
    held = WORKERS[2]
    failed = view(holder=held.id, only_holder=True).without_holder()
    assert pick(failed, WORKERS, {(held.id, held.incarnation)}) not in {held, None}
    assert pick(view(holder="gone"), WORKERS) is not None


def test_a_key_meets_on_one_worker_whatever_the_order() -> None:
    for number in range(50):
        found = {
            pick(view(join_key=key(number)), Random(seed).sample(WORKERS, 5)) for seed in range(5)
        }
        assert len(found) == 1


def test_keys_spread() -> None:
    counts = Counter(pick(view(join_key=key(n)), WORKERS) for n in range(1000))
    assert len(counts) == 5
    assert max(counts.values()) < 300


def test_only_the_keys_of_a_worker_that_leaves_move() -> None:
    for number in range(200):
        home = pick(view(join_key=key(number)), WORKERS)
        assert home is not None
        for gone in WORKERS:
            left = [worker for worker in WORKERS if worker is not gone]
            moved = pick(view(join_key=key(number)), left)
            assert (moved is home) == (home is not gone)


def test_a_key_avoids_whom_the_policy_rules_out() -> None:
    workers = [make_endpoint("w0"), make_endpoint("w1", state=EndpointState.DRAINING)]
    picks = {pick(view(join_key=key(n)), workers) for n in range(50)}
    assert picks == {workers[0]}
    tried = {(workers[0].id, workers[0].incarnation)}
    assert pick(view(join_key=key(0)), workers, tried) is None


def test_all_other_calls_are_the_inner_policys() -> None:
    busy = [make_endpoint("idle"), make_endpoint("busy", in_flight=50)]
    assert {pick(view(), busy) for _ in range(20)} == {busy[0]}
