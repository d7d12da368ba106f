"""Outlier ejection: who is set aside, why, for how long, and how it comes back."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from common.errors import (
    Cancelled,
    DeadlineExceeded,
    Forbidden,
    Internal,
    InvalidRequest,
    NotFound,
    Overloaded,
    Quarantined,
    Reason,
    Unavailable,
    Unsupported,
)
from router.core.health.breaker import Breaker
from router.core.health.faults import is_fault
from router.core.health.outliers import Cause, HealthLimits, Outliers
from router.core.health.pace import Pace, usual_s
from router.core.health.tally import Tally


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, False),
        (Internal("x"), True),
        (Internal("x", reason=Reason.MODEL_OUTPUT_INVALID), True),
        (Unavailable("x", reason=Reason.WORKER_LOST), True),
        (Unavailable("x", reason=Reason.DRAINING), None),
        (Unavailable("x", reason=Reason.STARTING), None),
        (InvalidRequest("x"), None),
        (NotFound("x"), None),
        (Unsupported("x"), None),
        (Forbidden("x"), None),
        (Overloaded("x"), None),
        (DeadlineExceeded("x"), None),
        (Cancelled("x"), None),
        (Quarantined("x"), None),
        (ConnectionError("the client went away"), None),
        (KeyboardInterrupt(), None),
    ],
)
def test_only_what_the_worker_did_wrong_counts(
    error: BaseException | None, expected: bool | None
) -> None:
    assert is_fault(error) is expected


def test_tally_forgets_what_is_older_than_the_window() -> None:
    tally = Tally(window_s=10)
    for second in range(30):
        tally.note(failed=second < 20, now=100 + second)
    assert tally.recent(129) == (10, 0)
    assert tally.in_a_row == 0
    assert tally.recent(134) == (5, 0)
    assert tally.recent(1000) == (0, 0)


def test_tally_of_a_clock_that_goes_back_still_counts() -> None:
    tally = Tally(window_s=10)
    tally.note(failed=True, now=100)
    tally.note(failed=True, now=99)
    assert tally.recent(100) == (2, 2)
    assert tally.in_a_row == 2


def pace(*points: tuple[int, float], at: float = 0.0) -> Pace:
    made = Pace()
    for rows, token_s in points:
        made.measured(rows=rows, token_s=token_s, now=at)
    return made


def test_points_of_other_batches_bound_what_a_step_takes() -> None:
    assert pace((4, 0.04)).bound_s(1, 0) == 0.04, "fewer rows take no longer"
    assert pace((4, 0.04)).bound_s(8, 0) == 0.08, "a row more takes no more than a row"
    assert pace((1, 0.02), (8, 0.05)).bound_s(4, 0) == 0.05
    assert pace((4, 0.04)).bound_s(4, 61) is None
    assert pace().bound_s(1, 0) is None


def test_usual_is_what_half_of_them_take() -> None:
    slow, fast = pace((1, 0.5)), pace((1, 0.05))
    assert usual_s([slow, fast], 1, 0) == 0.05
    assert usual_s([slow, fast, pace((1, 0.06))], 1, 0) == 0.06
    assert usual_s([slow, pace()], 1, 0) is None, "nobody to compare with"


def test_breaker_stays_open_longer_each_time_in_a_row() -> None:
    breaker = Breaker(ejection_s=5, ejection_s_max=20, random=Random(1))
    now = 100.0
    for times in range(1, 8):
        lasted_s = breaker.trip("x", now)
        most_s = min(5 * times, 20)
        assert most_s / 2 <= lasted_s <= most_s
        assert not breaker.may_ask(now + lasted_s - 0.01)
        now += lasted_s
        assert breaker.may_ask(now)
        assert not breaker.may_ask(now), "one probe at a time"
    breaker.close(now)
    breaker.trip("x", now + 1)
    assert breaker.times == 8, "it was hardly back"
    breaker.close(now + 20)
    breaker.trip("x", now + 41)
    assert breaker.times == 1


class Bench:
    """Workers w0, w1, …, all serving."""

    def __init__(self, num: int, **limits: Any) -> None:
        self.outliers = Outliers(HealthLimits(**limits), Random(1))
        self.now = 1000.0
        for worker in range(num):
            self.outliers.join(self.key(worker), group="m", kind="cpu")
            self.outliers.serves(self.key(worker), self.now, serves=True)

    def key(self, worker: int) -> tuple[str, str]:
        return (f"w{worker}", "1")

    def calls(self, worker: int, *outcomes: bool) -> None:
        """True is a success."""
        for outcome in outcomes:
            self.outliers.note(self.key(worker), self.now, failed=not outcome)

    def why(self, worker: int) -> str:
        return self.outliers.why(self.key(worker))

    def after(self, seconds: float) -> None:
        self.now += seconds
        self.outliers.sweep(self.now)


def test_five_failures_in_a_row() -> None:
    bench = Bench(2)
    bench.calls(0, False, False, False, False, True, False, False, False, False)
    assert bench.why(0) == ""
    bench.calls(0, False)
    assert bench.why(0) == "5 calls failed in a row"
    (news,) = bench.outliers.news()
    assert (news.key, news.cause) == (("w0", "1"), Cause.FAILURES)
    assert 2.5 <= news.for_s <= 5


def test_success_rate_of_enough_calls() -> None:
    bench = Bench(2)
    bench.calls(0, *(True, False) * 9, True)
    assert bench.why(0) == "", "19 calls say nothing"
    bench.calls(0, False)
    assert bench.why(0) == "10 of 20 calls failed"


def test_four_of_five_good_calls_are_enough() -> None:
    bench = Bench(2)
    bench.calls(0, *(True, True, True, True, False) * 20)
    assert bench.why(0) == ""


def test_failures_of_long_ago_are_forgotten() -> None:
    bench = Bench(2)
    bench.calls(0, *(True, False) * 9)
    bench.after(11)
    bench.calls(0, True, False)
    assert bench.why(0) == ""


def steps(bench: Bench, seconds: float, *token_s: float, rows: int = 4) -> None:
    """Every worker tells its pace every half second."""
    for _ in range(round(seconds / 0.5)):
        for worker, pace_s in enumerate(token_s):
            bench.outliers.measured(bench.key(worker), bench.now, rows=rows, token_s=pace_s)
        bench.after(0.5)


def test_worker_that_stays_far_slower_than_its_like() -> None:
    bench = Bench(3)
    steps(bench, 2, 0.02, 0.021, 0.2)
    assert bench.why(2) == ""
    steps(bench, 1, 0.02, 0.021, 0.2)
    assert bench.why(2) == "more than 3 times as slow as its like"
    assert bench.why(0) == bench.why(1) == ""


def test_moment_of_slowness_is_nothing() -> None:
    bench = Bench(3)
    for _ in range(5):
        steps(bench, 1, 0.02, 0.02, 0.2)
        steps(bench, 1, 0.02, 0.02, 0.02)
    assert bench.why(2) == ""


def test_large_batch_is_not_slowness() -> None:
    """16 rows take four times as long as one, which is little a row."""
    bench = Bench(2)
    for _ in range(20):
        bench.outliers.measured(bench.key(0), bench.now, rows=1, token_s=0.01)
        bench.outliers.measured(bench.key(1), bench.now, rows=16, token_s=0.04)
        bench.after(0.5)
    assert bench.why(0) == bench.why(1) == ""


def test_other_hardware_is_not_slowness() -> None:
    bench = Bench(2)
    bench.outliers.join(("gpu", "1"), group="m", kind="cuda")
    bench.outliers.serves(("gpu", "1"), bench.now, serves=True)
    for _ in range(20):
        bench.outliers.measured(("gpu", "1"), bench.now, rows=1, token_s=0.001)
        steps(bench, 0.5, 0.1, 0.1)
    assert bench.why(0) == bench.why(1) == ""


def test_old_measurements_set_nobody_aside() -> None:
    bench = Bench(3)
    steps(bench, 1, 0.02, 0.02, 0.2)
    for _ in range(20):
        bench.after(0.5)
    steps(bench, 1, 0.02, 0.02, 0.02)
    assert bench.why(2) == ""


def eject(bench: Bench, *workers: int) -> None:
    for worker in workers:
        bench.calls(worker, *(False,) * 5)


def test_half_of_the_workers_stay_whatever_they_do() -> None:
    bench = Bench(4)
    eject(bench, 0, 1, 2, 3)
    assert [bool(bench.why(worker)) for worker in range(4)] == [True, True, False, False]
    assert bench.outliers.num_ignored == 2, "and that is said"
    bench.calls(2, True)
    bench.after(1)
    assert bench.outliers.num_ignored == 1


@pytest.mark.parametrize(("num", "ejected"), [(1, 0), (2, 1), (3, 1), (5, 2)])
def test_share_is_rounded_down(num: int, ejected: int) -> None:
    bench = Bench(num)
    eject(bench, *range(num))
    assert sum(bool(bench.why(worker)) for worker in range(num)) == ejected


def test_share_of_nothing_switches_ejection_off() -> None:
    bench = Bench(4, ejected_share_max=0.0)
    eject(bench, *range(4))
    assert not any(bench.why(worker) for worker in range(4))


def test_when_others_go_the_ejected_come_back_unasked() -> None:
    bench = Bench(4)
    eject(bench, 0, 1)
    bench.outliers.serves(bench.key(2), bench.now, serves=False)
    assert sum(bool(bench.why(worker)) for worker in (0, 1)) == 1
    bench.outliers.leave(bench.key(3), bench.now)
    assert sum(bool(bench.why(worker)) for worker in (0, 1)) == 1, "one of two may be"
    bench.outliers.leave(bench.key(0), bench.now)
    assert bench.why(1) == ""
    assert [news.by_probe for news in bench.outliers.news() if not news.why] == [False, False]


def test_room_for_another_ejection_is_used() -> None:
    bench = Bench(3)
    eject(bench, 0, 1)
    assert bench.why(1) == ""
    bench.outliers.join(bench.key(3), group="m", kind="cpu")
    bench.outliers.serves(bench.key(3), bench.now, serves=True)
    bench.after(0.1)
    assert bench.why(1) == "5 calls failed in a row"


def test_probe_decides_who_comes_back() -> None:
    bench = Bench(2)
    eject(bench, 0)
    bench.after(1)
    assert bench.outliers.due(bench.now) == []
    bench.after(5)
    assert bench.outliers.due(bench.now) == [bench.key(0)]
    assert bench.outliers.due(bench.now) == []
    bench.outliers.probed(bench.key(0), bench.now, passed=False)
    assert bench.why(0) == "it failed a probe"
    assert [news.cause for news in bench.outliers.news()] == [Cause.FAILURES, Cause.PROBE]
    bench.after(10)
    assert bench.outliers.due(bench.now) == [bench.key(0)]
    bench.outliers.probed(bench.key(0), bench.now, passed=True)
    assert bench.why(0) == ""
    assert [news.by_probe for news in bench.outliers.news()] == [True]
    bench.calls(0, False, False, False, False)
    assert bench.why(0) == "", "it begins anew"


def test_late_answers_and_outcomes_of_workers_that_left_are_nothing() -> None:
    bench = Bench(2)
    eject(bench, 0)
    bench.outliers.leave(bench.key(0), bench.now)
    bench.outliers.probed(bench.key(0), bench.now, passed=True)
    bench.calls(0, False)
    bench.outliers.probed(bench.key(1), bench.now, passed=False)
    assert bench.why(1) == ""
