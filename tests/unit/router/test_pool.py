"""Who is in the pool, in which state, and for how long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.core.endpoint import Endpoint, EndpointState, Load
from router.core.pool import EndpointPool
from tests.support.endpoints import make_endpoint
from tests.support.manual_clock import ManualClock

CONNECTING, READY = EndpointState.CONNECTING, EndpointState.READY
DRAINING, LOST = EndpointState.DRAINING, EndpointState.LOST

W1 = make_endpoint("w1", state=CONNECTING)
W2 = make_endpoint("w2", state=CONNECTING)
W1_RESTARTED = replace(W1, incarnation="w1-2")


class Bench:
    """A pool, its clock, and short words for what happens to it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pool = EndpointPool(self.clock, hold_down_s_max=60, abandon_s=5, remember_s=300)

    def registry(self, *endpoints: Endpoint, stale: bool = False) -> None:
        self.pool.apply(endpoints, stale=stale)
        self.pool.check_integrity()

    def speaks(self, endpoint: Endpoint = W1, *, draining: bool = False, **load: int) -> None:
        self.pool.report(endpoint.id, endpoint.incarnation, Load(**load), draining=draining)
        self.pool.check_integrity()

    def breaks(self, endpoint: Endpoint = W1) -> None:
        self.pool.lost(endpoint.id, endpoint.incarnation)
        self.pool.check_integrity()

    @property
    def states(self) -> dict[str, EndpointState]:
        snapshot = self.pool.snapshot()
        return {e.id: e.state for endpoints in snapshot.models.values() for e in endpoints}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_endpoint_is_connecting_until_its_load_stream_speaks(bench: Bench) -> None:
    bench.registry(W1)
    assert bench.states == {"w1": CONNECTING}
    bench.speaks()
    assert bench.states == {"w1": READY}


def test_broken_load_stream_means_lost_until_it_speaks_again(bench: Bench) -> None:
    bench.registry(W1)
    bench.speaks()
    bench.breaks()
    assert bench.states == {"w1": LOST}
    bench.speaks()
    assert bench.states == {"w1": READY}


def test_missing_endpoint_whose_stream_speaks_is_held_down_for_a_bounded_time(bench: Bench) -> None:
    bench.registry(W1)
    bench.speaks()
    bench.registry()
    bench.clock.advance(59.9)
    bench.speaks()
    bench.pool.sweep()
    assert bench.states == {"w1": READY}
    bench.clock.advance(0.1)
    bench.pool.sweep()
    assert bench.states == {}


def test_registered_again_within_hold_down_is_as_if_nothing_had_been(bench: Bench) -> None:
    bench.registry(W1)
    bench.speaks()
    bench.registry()
    bench.clock.advance(50)
    bench.registry(W1)
    bench.clock.advance(50)
    bench.speaks()
    bench.pool.sweep()
    assert bench.states == {"w1": READY}


def test_missing_endpoint_goes_when_its_stream_breaks(bench: Bench) -> None:
    bench.registry(W1)
    bench.speaks()
    bench.registry()
    bench.breaks()
    assert bench.states == {}


@pytest.mark.parametrize("how", ["never spoke", "lost", "drained by report", "drained by registry"])
def test_missing_endpoint_goes_at_once_without_a_living_stream_or_after_draining(
    bench: Bench, how: str
) -> None:
    bench.registry(W1)
    if how != "never spoke":
        bench.speaks()
    if how == "lost":
        bench.breaks()
    elif how == "drained by report":
        bench.speaks(draining=True)
    elif how == "drained by registry":
        bench.registry(replace(W1, state=DRAINING))
        assert bench.states == {"w1": DRAINING}
    bench.registry()
    assert bench.states == {}


def test_draining_does_not_come_back_within_one_incarnation(bench: Bench) -> None:
    bench.registry(W1)
    bench.speaks(draining=True)
    bench.speaks(draining=False)
    bench.registry(W1)
    assert bench.states == {"w1": DRAINING}
    bench.registry(W1_RESTARTED)
    bench.speaks(W1_RESTARTED)
    assert bench.states == {"w1": READY}


def test_stale_snapshot_deletes_nothing_but_may_bring_news(bench: Bench) -> None:
    """A router that starts without a registry serves from the file."""
    bench.registry(W1, stale=True)
    bench.speaks()
    assert bench.pool.snapshot().stale
    bench.registry(W2, stale=True)
    assert bench.states == {"w1": READY, "w2": CONNECTING}
    assert bench.pool.has_heard


def test_snapshot_says_since_when_the_registry_is_away(bench: Bench) -> None:
    assert not bench.pool.has_heard
    bench.registry(W1)
    assert bench.pool.snapshot().stale_since is None
    bench.clock.advance(10)
    for _ in range(2):
        bench.registry(W1, stale=True)
        assert bench.pool.snapshot().stale_since == 1010
        bench.clock.advance(10)
    bench.registry(W1)
    assert not bench.pool.snapshot().stale


def test_stale_snapshot_does_not_replace_a_living_incarnation(bench: Bench) -> None:
    bench.registry(W1_RESTARTED)
    bench.speaks(W1_RESTARTED)
    bench.registry(W1, stale=True)
    bench.speaks(W1)
    (endpoint,) = bench.pool.snapshot().models["tiny"]
    assert (endpoint.incarnation, endpoint.state) == ("w1-2", READY)


def test_new_incarnation_replaces_the_old_one_and_starts_from_nothing(bench: Bench) -> None:
    bench.registry(W1)
    bench.speaks(running=5)
    with bench.pool.track(W1):
        bench.registry(W1_RESTARTED)
        (endpoint,) = bench.pool.snapshot().models["tiny"]
        assert (endpoint.incarnation, endpoint.state) == ("w1-2", CONNECTING)
        assert (endpoint.in_flight, endpoint.load.running) == (0, 0)
    (endpoint,) = bench.pool.snapshot().models["tiny"]
    assert endpoint.in_flight == 0, (
        "the end of a call on the old one counts nothing off the new one"
    )


def test_reports_of_an_incarnation_that_is_not_registered_are_ignored(bench: Bench) -> None:
    bench.registry(W1)
    bench.speaks(W1_RESTARTED)
    bench.breaks(W1_RESTARTED)
    bench.speaks(W2)
    assert bench.states == {"w1": CONNECTING}


def test_track_counts_whatever_the_end(bench: Bench) -> None:
    bench.registry(W1)
    bench.speaks()

    def in_flight() -> int:
        return bench.pool.snapshot().models["tiny"][0].in_flight

    with bench.pool.track(W1), bench.pool.track(W1):
        assert in_flight() == 2
    with pytest.raises(KeyError), bench.pool.track(W1):
        raise KeyError
    assert in_flight() == 0


def test_calls_that_a_report_does_not_know_yet_count_as_load(bench: Bench) -> None:
    bench.registry(W1)
    with bench.pool.track(W1), bench.pool.track(W1):
        bench.speaks(in_flight_of_router=1)
        assert bench.pool.snapshot().models["tiny"][0].unreported == 1


def test_snapshot_is_the_same_object_until_something_changes(bench: Bench) -> None:
    bench.registry(W1, replace(W2, model="other"))
    first = bench.pool.snapshot()
    assert bench.pool.snapshot() is first
    bench.pool.report("w1", "w1-1", Load(running=1), draining=False)
    second = bench.pool.snapshot()
    assert second is not first
    assert second.models["other"] is first.models["other"], "other models are not built again"
    assert first.models["tiny"][0].load.running == 0, "a snapshot in hand never changes"


def test_calls_on_an_endpoint_that_stays_lost_are_given_up(bench: Bench) -> None:
    bench.registry(W1)
    bench.speaks()
    with bench.pool.track(W1) as tracked:
        bench.breaks()
        bench.clock.advance(4.9)
        assert bench.pool.sweep() == ()
        bench.clock.advance(0.1)
        assert bench.pool.sweep() == (tracked,)
    assert bench.pool.sweep() == ()


def test_calls_are_given_up_also_when_the_lost_endpoint_has_left(bench: Bench) -> None:
    bench.registry(W1)
    bench.speaks()
    with bench.pool.track(W1) as tracked:
        bench.breaks()
        bench.registry()
        assert bench.states == {}
        bench.clock.advance(5)
        assert bench.pool.sweep() == (tracked,)


def test_calls_run_on_when_a_draining_endpoint_leaves(bench: Bench) -> None:
    bench.registry(W1)
    bench.speaks(draining=True)
    with bench.pool.track(W1):
        bench.registry()
        bench.clock.advance(1000)
        assert bench.pool.sweep() == ()


def test_model_is_remembered_for_a_while_after_its_last_worker_left(bench: Bench) -> None:
    assert not bench.pool.remembers("tiny")
    bench.registry(W1)
    assert bench.pool.remembers("tiny")
    bench.registry()
    bench.clock.advance(299)
    assert bench.pool.remembers("tiny")
    bench.clock.advance(1)
    assert not bench.pool.remembers("tiny")


def test_change_of_state_is_announced_and_change_of_load_is_not(bench: Bench) -> None:
    bench.registry(W1)
    changed = bench.pool.changed()
    bench.speaks()
    assert changed.is_set()
    changed = bench.pool.changed()
    bench.speaks(running=3)
    assert not changed.is_set()
    bench.breaks()
    assert changed.is_set()


def test_integrity_check_finds_a_wrong_index(bench: Bench) -> None:
    bench.registry(W1)
    bench.pool._there._entries.clear()
    with pytest.raises(AssertionError, match="index and entries differ"):
        bench.pool.check_integrity()


def test_repr_tells_the_states(bench: Bench) -> None:
    bench.registry(W1, stale=True)
    assert repr(bench.pool) == "EndpointPool(w1=CONNECTING, stale)"
