"""Who is in the pool, in which state, and for how long."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from common.errors import Internal, InvalidRequest, LeptonError, Reason, Unavailable
from router.core.endpoint import Endpoint, EndpointState, Load
from router.core.health.outliers import HealthLimits, Outliers
from router.core.pool import EndpointPool
from tests.support.endpoints import make_endpoint
from tests.support.manual_clock import ManualClock

CONNECTING, READY = EndpointState.CONNECTING, EndpointState.READY
DRAINING, LOST = EndpointState.DRAINING, EndpointState.LOST
SUSPECT, EJECTED = EndpointState.SUSPECT, EndpointState.EJECTED

W1 = make_endpoint("w1", state=CONNECTING)
W2 = make_endpoint("w2", state=CONNECTING)
W1_RESTARTED = replace(W1, incarnation="w1-2")


class Bench:
    """A pool, its clock, and short words for what happens to it."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.pool = EndpointPool(
            self.clock, **{"hold_down_s_max": 60, "abandon_s": 5, "remember_s": 300} | settings
        )

    def registry(self, *endpoints: Endpoint, stale: bool = False) -> None:
        self.pool.apply(endpoints, stale=stale)
        self.pool.check_integrity()

    def speaks(self, endpoint: Endpoint = W1, *, draining: bool = False, **load: Any) -> None:
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


def test_silent_endpoint_is_a_suspect_then_lost_and_its_calls_are_given_up(bench: Bench) -> None:
    bench.registry(W1)
    bench.speaks()
    changed = bench.pool.changed()
    with bench.pool.track(W1) as tracked:
        bench.clock.advance(1)
        assert bench.pool.sweep() == ()
        assert bench.states == {"w1": SUSPECT}
        assert changed.is_set()
        (endpoint,) = bench.pool.snapshot().models["tiny"]
        assert endpoint.trouble == "silent for 1 s"
        bench.clock.advance(4)
        assert bench.pool.sweep() == (tracked,)
        assert bench.states == {"w1": LOST}
    bench.speaks()
    assert bench.states == {"w1": READY}


def test_endpoint_whose_step_stands_still_is_a_suspect_although_it_speaks(bench: Bench) -> None:
    bench.registry(W1)
    with bench.pool.track(W1) as tracked:
        for _ in range(10):
            bench.speaks(step=3, running=1, step_ends_in_ms=0, step_ms=20.0)
            bench.clock.advance(0.5)
        assert bench.pool.sweep() == (tracked,)
        assert bench.states == {"w1": LOST}
    bench.speaks(step=4, running=1, step_ends_in_ms=0, step_ms=20.0)
    assert bench.states == {"w1": READY}


def test_time_in_which_the_router_itself_stood_still_is_held_against_nobody(bench: Bench) -> None:
    bench.registry(W1)
    bench.speaks()
    with bench.pool.track(W1) as tracked:
        bench.clock.advance(30)
        bench.pool.snapshot()
        assert bench.pool.sweep(slept_s=29.9) == ()
        bench.pool.check_integrity()
        assert bench.states == {"w1": READY}
        bench.clock.advance(30)
        assert bench.pool.sweep() == (tracked,), "the control: otherwise it is"


def silent_bench(num_silent: int, **settings: Any) -> Bench:
    """Three speaking workers, of which so many then say nothing for 6 s."""
    bench = Bench(mass_silence_s_max=10, **settings)
    workers = [make_endpoint(f"w{i}", state=CONNECTING) for i in range(3)]
    bench.registry(*workers)
    for worker in workers:
        bench.speaks(worker)
    for _ in range(12):
        bench.clock.advance(0.5)
        for worker in workers[num_silent:]:
            bench.speaks(worker)
        bench.pool.sweep()
    return bench


def test_most_of_a_model_silent_at_once_are_not_lost_for_a_while() -> None:
    bench = silent_bench(2)
    assert bench.states == {"w0": SUSPECT, "w1": SUSPECT, "w2": READY}
    assert bench.pool.frozen == {("tiny", "silent")}
    with bench.pool.track(make_endpoint("w0")) as tracked:
        assert bench.pool.sweep() == ()
        bench.clock.advance(10)
        bench.speaks(make_endpoint("w2"))
        assert tracked in bench.pool.sweep(), "but not for ever"
    assert bench.states["w0"] is LOST
    assert bench.pool.frozen == frozenset()


def test_one_of_three_silent_is_lost() -> None:
    bench = silent_bench(1)
    assert bench.states == {"w0": LOST, "w1": READY, "w2": READY}
    assert bench.pool.frozen == frozenset()


def test_broken_stream_is_a_loss_also_while_most_are_silent() -> None:
    bench = silent_bench(2)
    bench.breaks(make_endpoint("w0"))
    assert bench.states == {"w0": LOST, "w1": SUSPECT, "w2": READY}


def test_most_of_a_model_missing_at_once_stay_whether_they_speak_or_not() -> None:
    bench = Bench(mass_vanish_s_max=600)
    workers = [make_endpoint(f"w{i}", state=CONNECTING) for i in range(3)]
    bench.registry(*workers)
    bench.speaks(workers[0])
    bench.registry(workers[2])  # w0 speaks, w1 has not spoken yet
    assert set(bench.states) == {"w0", "w1", "w2"}
    assert bench.pool.frozen == {("tiny", "missing")}
    bench.clock.advance(599)
    bench.speaks(workers[0])
    bench.pool.sweep()
    assert set(bench.states) == {"w0", "w1", "w2"}, "longer than one that is missing alone"
    bench.breaks(workers[1])
    assert set(bench.states) == {"w0", "w2"}, "but not without a connection"
    bench.registry(*workers)
    assert bench.pool.frozen == frozenset()


def test_missing_for_too_long_they_go_even_together() -> None:
    bench = Bench(mass_vanish_s_max=600)
    bench.registry(W1, W2)
    bench.registry()
    bench.clock.advance(600)
    bench.pool.sweep()
    assert bench.states == {}


def fail(bench: Bench, endpoint: Endpoint, error: LeptonError, times: int = 1) -> None:
    for _ in range(times):
        with suppress(LeptonError), bench.pool.track(endpoint):
            raise error
    bench.pool.check_integrity()


@pytest.fixture
def watched() -> Bench:
    """Two ready workers, and ejection on."""
    bench = Bench(health=Outliers(HealthLimits(), Random(1)), slow_start_s=10)
    bench.registry(W1, W2)
    bench.speaks(W1)
    bench.speaks(W2)
    return bench


def test_endpoint_that_fails_is_set_aside_until_a_probe_passes(watched: Bench) -> None:
    changed = watched.pool.changed()
    fail(watched, W1, Internal("x"), times=5)
    assert watched.states == {"w1": EJECTED, "w2": READY}
    assert changed.is_set()
    assert watched.pool.due_probes() == []
    watched.clock.advance(5)
    for worker in (W1, W2):
        watched.speaks(worker)
    (asked,) = watched.pool.due_probes()
    assert asked.id == "w1"
    watched.pool.probed(asked, passed=False)
    assert watched.states["w1"] is EJECTED
    watched.clock.advance(10)
    for worker in (W1, W2):
        watched.speaks(worker)
    (asked,) = watched.pool.due_probes()
    watched.pool.probed(asked, passed=True)
    assert watched.states == {"w1": READY, "w2": READY}
    assert [bool(news.why) for news in watched.pool.news()] == [True, True, False]
    assert watched.pool.news() == ()
    watched.pool.check_integrity()


def warmth(bench: Bench) -> dict[str, float]:
    return {e.id: e.warmth for e in bench.pool.snapshot().models["tiny"]}


def test_endpoint_that_comes_back_from_a_probe_gets_its_share_slowly(watched: Bench) -> None:
    fail(watched, W1, Internal("x"), times=5)
    watched.clock.advance(5)
    watched.speaks(W1)
    watched.pool.probed(watched.pool.due_probes()[0], passed=True)
    assert warmth(watched) == {"w1": pytest.approx(0.3), "w2": 1.0}
    watched.clock.advance(5)
    watched.speaks(W1)
    assert warmth(watched)["w1"] == pytest.approx(0.65)
    watched.clock.advance(6)
    watched.pool.sweep()
    assert warmth(watched)["w1"] == 1.0


def test_newcomer_gets_its_share_slowly_and_the_first_ones_do_not() -> None:
    bench = Bench(slow_start_s=10)
    w3 = make_endpoint("w3", state=CONNECTING)
    bench.registry(W1, W2)
    bench.speaks(W1)
    bench.clock.advance(3)
    bench.speaks(W2)
    assert warmth(bench) == {"w1": 1.0, "w2": 1.0}, "the cluster has just started"
    for _ in range(8):
        bench.clock.advance(1)
        bench.speaks(W1)
        bench.speaks(W2)
    bench.registry(W1, W2, w3)
    bench.speaks(w3)
    assert warmth(bench) == {"w1": 1.0, "w2": 1.0, "w3": pytest.approx(0.3)}
    bench.clock.advance(4)
    bench.speaks(w3)
    assert warmth(bench)["w3"] == pytest.approx(0.58)


@pytest.mark.parametrize(
    "error", [InvalidRequest("x"), Unavailable("x", reason=Reason.DRAINING)], ids=lambda e: e.reason
)
def test_requests_that_were_refused_set_nobody_aside(watched: Bench, error: LeptonError) -> None:
    fail(watched, W1, error, times=50)
    assert watched.states == {"w1": READY, "w2": READY}


def test_loss_that_breaks_many_calls_counts_once(watched: Bench) -> None:
    lost = Unavailable("x", reason=Reason.WORKER_LOST)
    fail(watched, W1, lost)
    watched.breaks(W1)
    fail(watched, W1, lost, times=40)
    watched.speaks(W1)
    assert watched.states == {"w1": READY, "w2": READY}
    for _ in range(5):
        fail(watched, W1, lost)
    assert watched.states == {"w1": EJECTED, "w2": READY}, "again and again is another matter"


def test_last_worker_that_lives_is_never_set_aside(watched: Bench) -> None:
    fail(watched, W1, Internal("x"), times=5)
    watched.breaks(W2)
    assert watched.states == {"w1": READY, "w2": LOST}


def test_restarted_worker_begins_with_a_clean_sheet(watched: Bench) -> None:
    fail(watched, W1, Internal("x"), times=5)
    watched.registry(W1_RESTARTED, W2)
    watched.speaks(W1_RESTARTED)
    assert watched.states == {"w1": READY, "w2": READY}


def test_endpoint_that_is_far_slower_than_its_like_is_set_aside(watched: Bench) -> None:
    for step in range(60):
        watched.clock.advance(0.1)
        watched.speaks(W1, step=step, decode_rows=2, decode_tokens_per_s=50.0)
        watched.speaks(W2, step=step, decode_rows=2, decode_tokens_per_s=5.0)
        watched.pool.sweep()
    assert watched.states == {"w1": READY, "w2": EJECTED}
    (news,) = watched.pool.news()
    assert news.why == "more than 3 times as slow as its like"
