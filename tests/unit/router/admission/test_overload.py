"""What admission promises under load, in virtual time, and that without it the promise is broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from common.errors import Reason
from router.core.admission.demand import Band
from router.core.admission.limits import AdmissionLimits
from tests.support.overload import Cluster, Fate, poisson, quantile

LIMITS = AdmissionLimits(wait_s_max=1.0)
PROTECTED = Cluster(limits=LIMITS)
BARE = Cluster(limits=LIMITS, protected=False)
IN_ANSWERS = Cluster(limits=AdmissionLimits(wait_s_max=60.0, wait_answers_max=0.75))
"""The same bound, found by measuring."""
PEAK = PROTECTED.calls_per_s


def goodput(fates: Sequence[Fate], *, begin: float, end: float, within_s: float) -> float:
    """Tokens per second of calls that came in [begin, end) and were answered in time, in calls of 50 tokens."""
    good = [
        fate.arrival.tokens
        for fate in fates
        if begin <= fate.arrival.at < end
        and fate.ended_at is not None
        and fate.latency_s <= within_s
    ]
    return sum(good) / 50 / (end - begin)


def completed(fates: Sequence[Fate], caller: str | None = None) -> list[Fate]:
    return [
        fate
        for fate in fates
        if fate.ended_at is not None and caller in {None, fate.arrival.caller}
    ]


@pytest.fixture(scope="module")
def knee_s() -> float:
    """p99 of the answers at 90 % of the peak."""
    fates = PROTECTED.run(poisson(0.9 * PEAK, seconds=60, seed=1))
    return quantile((fate.latency_s for fate in completed(fates)), 0.99)


@pytest.mark.parametrize("protected", [PROTECTED, IN_ANSWERS])
def test_five_times_too_much_costs_neither_goodput_nor_time(
    knee_s: float, protected: Cluster
) -> None:
    arrivals = [
        *poisson(0.2 * PEAK, seconds=5, seed=2),
        *poisson(5 * PEAK, seconds=30, seed=3, start=5),
    ]
    fates = protected.run(arrivals)
    p99_s = quantile((fate.latency_s for fate in completed(fates)), 0.99)
    assert p99_s <= 2 * knee_s
    assert goodput(fates, begin=5, end=35, within_s=2 * knee_s) >= 0.9 * PEAK
    refused = [fate for fate in fates if fate.refused_at is not None]
    assert len(refused) > 0.7 * len(arrivals)
    slow = [fate for fate in refused if fate.refused_at != fate.arrival.at]
    assert len(slow) <= 0.02 * len(refused)
    learned = [fate for fate in slow if fate.arrival.at > 8]  # how fast a full cluster is
    assert len(learned) <= 0.01 * len(refused)
    for fate in refused:
        assert fate.refusal is not None
        assert fate.refusal.retry_after_s is not None
        assert 0 < fate.refusal.retry_after_s < 5

    bare = BARE.run(arrivals)
    assert quantile((fate.latency_s for fate in completed(bare)), 0.99) > 10 * knee_s
    assert goodput(bare, begin=5, end=35, within_s=2 * knee_s) < 0.3 * PEAK


def test_after_overload_everything_is_as_before_within_five_seconds(knee_s: float) -> None:
    arrivals = [
        *poisson(3 * PEAK, seconds=15, seed=4),
        *poisson(0.5 * PEAK, seconds=25, seed=5, start=15),
    ]
    offered = sum(a.tokens for a in arrivals if a.at >= 20) / 50 / 20
    assert goodput(PROTECTED.run(arrivals), begin=20, end=40, within_s=knee_s) >= 0.95 * offered
    assert goodput(BARE.run(arrivals), begin=20, end=40, within_s=knee_s) < 0.6 * offered


def test_a_small_caller_does_not_notice_a_large_one() -> None:
    large = poisson(5 * PEAK, seconds=30, seed=6, caller="large")
    small = poisson(0.05 * PEAK, seconds=30, seed=7, caller="small")
    alone = quantile((f.wait_s for f in completed(PROTECTED.run(small))), 0.99)
    fates = PROTECTED.run([*large, *small])
    theirs = completed(fates, "small")
    assert len(theirs) == len(small)
    assert quantile((fate.wait_s for fate in theirs), 0.99) <= alone + 0.75
    # The large one gets all the rest.
    assert sum(fate.arrival.tokens for fate in completed(fates)) / 50 >= 0.9 * PEAK * 30

    nameless = [replace(arrival, caller="") for arrival in small]
    fates = PROTECTED.run([*(replace(arrival, caller="") for arrival in large), *nameless])
    assert len({fate.arrival for fate in completed(fates)} & set(nameless)) < 0.6 * len(small)


def test_work_that_would_be_late_is_not_begun() -> None:
    limits = AdmissionLimits(wait_s_max=10.0)
    arrivals = poisson(3 * PEAK, seconds=40, seed=8, tokens=(15, 20), deadline_s=1.0)
    fates = Cluster(limits=limits).run(arrivals)
    assert wasted(fates) <= 0.01
    assert {f.refusal.reason for f in fates if f.refusal is not None} == {Reason.WOULD_BE_LATE}
    used_s = sum(fate.row_s for fate in fates)
    assert used_s >= 0.9 * 16 * 40

    assert wasted(Cluster(limits=limits, protected=False).run(arrivals)) > 0.2


def wasted(fates: Sequence[Fate]) -> float:
    """Share of the time of rows that went into answers that came too late."""
    late_s = sum(fate.row_s for fate in fates if fate.ended_at is None)
    return late_s / sum(fate.row_s for fate in fates)


def test_urgent_calls_pass_and_patient_ones_still_come_through() -> None:
    limits = AdmissionLimits(wait_s_max=5.0, ageing_s=1.0)
    urgent = poisson(1.5 * PEAK, seconds=30, seed=9, band=Band.HIGH, caller="urgent")
    patient = poisson(0.1 * PEAK, seconds=30, seed=10, band=Band.LOW, caller="patient")
    arrivals = [*urgent, *patient]
    aged = completed(Cluster(limits=limits).run(arrivals), "patient")
    assert len(aged) >= 0.9 * len(patient)
    assert quantile((fate.wait_s for fate in aged), 0.99) <= 4.0

    starved = completed(Cluster(limits=replace(limits, ageing_s=1e9)).run(arrivals), "patient")
    assert len(starved) < 0.3 * len(patient)


def test_urgent_calls_do_not_wait_behind_a_batch() -> None:
    batch = poisson(5 * PEAK, seconds=20, seed=11, band=Band.LOW)
    urgent = poisson(0.3 * PEAK, seconds=20, seed=12, band=Band.HIGH, caller="urgent")
    limits = AdmissionLimits(wait_s_max=5.0, ageing_s=60.0)
    fates = completed(Cluster(limits=limits).run([*batch, *urgent]), "urgent")
    assert len(fates) == len(urgent)
    assert quantile((fate.wait_s for fate in fates), 0.99) < 0.5

    level = [replace(arrival, band=Band.NORMAL, caller="") for arrival in (*batch, *urgent)]
    assert quantile((f.wait_s for f in completed(Cluster(limits=limits).run(level))), 0.5) > 2.0
