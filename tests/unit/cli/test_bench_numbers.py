"""Samples → numbers: definitions, bounds, goodput, time."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.bench.measure import Sample
from cli.bench.report import Report, Tally
from cli.bench.run import Load
from cli.bench.slo import parse_slo
from cli.bench.spread import Values, percentile
from cli.bench.timeline import BINS_MAX, Timeline
from cli.bench.workload import Workload
from cli.request import GenerateOptions

LOAD = Load(requests=3, concurrency=2, workload=Workload(), options=GenerateOptions())


def sample(**changes: object) -> Sample:
    values: dict[str, object] = {
        "planned_s": 0.0,
        "began_s": 0.0,
        "first_at_s": 0.1,
        "ended_s": 1.1,
        "gaps_s": (0.1, 0.3),
        "prompt_tokens": 5,
        "completion_tokens": 11,
        **changes,
    }
    return Sample(**values)  # type: ignore[arg-type]


def report(*samples: Sample, slo: str = "", took_s: float = 4.0) -> Report:
    tally = Tally(parse_slo(slo) if slo else None)
    for one in samples:
        tally.add(one)
    return tally.report(LOAD, took_s)


def test_definitions() -> None:
    found = report(
        sample(),
        sample(first_at_s=0.3, completion_tokens=1, gaps_s=()),
        sample(error="QUEUE_FULL", first_at_s=None, completion_tokens=0),
    )
    assert (found.requests, found.failed, found.errors) == (3, 1, {"QUEUE_FULL": 1})
    assert found.tokens_per_s == 3.0
    assert found.requests_per_s == 0.5
    assert found.ttft_ms is not None
    assert found.ttft_ms.median == pytest.approx(200)
    assert found.tpot_ms is not None
    assert found.tpot_ms.median == pytest.approx(100)  # (1.1 - 0.1) / 10; the other has one token
    assert found.itl_ms is not None
    assert (found.itl_ms.median, found.itl_ms.p99) == pytest.approx((200, 298))
    assert (found.goodput, found.slo_share) == (None, None)


def test_latencies_count_from_the_planned_time() -> None:
    """The sender was two seconds late; whoever waited does not care why."""
    found = report(sample(planned_s=0.0, began_s=2.0, first_at_s=2.5, ended_s=3.5))
    assert found.ttft_ms is not None
    assert found.ttft_from_sending_ms is not None
    assert found.late_ms is not None
    assert found.e2el_ms is not None
    assert (found.ttft_ms.median, found.e2el_ms.median) == pytest.approx((2500, 3500))
    assert (found.ttft_from_sending_ms.median, found.late_ms.median) == pytest.approx((500, 2000))


def test_a_run_in_which_all_failed_has_no_numbers() -> None:
    found = report(sample(error="X"))
    assert (found.ttft_ms, found.itl_ms, found.tokens_per_s, found.curves) == (None, None, 0.0, {})


def test_goodput_counts_who_kept_every_bound() -> None:
    found = report(
        sample(),  # 100 ms, 100 ms a token
        sample(first_at_s=0.5, ended_s=0.6),  # late first token
        sample(ended_s=9.1),  # slow tokens
        sample(cancelled=True),
        sample(error="X"),
        sample(completion_tokens=1, gaps_s=()),  # no second token: keeps any bound on it
        slo="ttft=200ms,tpot=0.15s",
    )
    assert found.goodput == pytest.approx(2 / 4.0)
    assert found.slo_share == pytest.approx(2 / 6)


def test_who_was_cut_short_counts_tokens_but_no_times_of_a_whole_answer() -> None:
    found = report(sample(cancelled=True, completion_tokens=3))
    assert (found.cancelled, found.failed, found.completion_tokens) == (1, 0, 3)
    assert (found.tpot_ms, found.e2el_ms) == (None, None)
    assert found.ttft_ms is not None


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_percentiles_are_numpys(values: list[float], share: float) -> None:
    expected = float(np.quantile(np.array(values), share))
    assert percentile(sorted(values), share) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_beyond_the_bound_a_fair_sample_stands_for_all() -> None:
    values = Values(values_max=500, seed=1)
    numbers = list(range(100_000))
    random.Random(2).shuffle(numbers)
    for number in numbers:
        values.add(number)
    found = values.spread()
    assert found is not None
    assert len(values) == 100_000
    assert len(values.percentiles(10)) == 11
    assert (found.mean, found.max) == (49_999.5, 99_999)  # exact
    assert found.median == pytest.approx(50_000, rel=0.1)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 9)), min_size=1, max_size=400))
def test_a_timeline_stays_small_and_loses_no_token(steps: list[tuple[float, int]]) -> None:
    timeline, at = Timeline(), 0.0
    timeline.sent(0.0)
    for gap, tokens in steps:
        at += gap
        timeline.received(at, tokens)
    timeline.ended(at, failed=True)
    assert len(timeline.bins) <= BINS_MAX
    assert sum(one.tokens for one in timeline.bins) == sum(tokens for _, tokens in steps)
    assert sum(one.failed for one in timeline.bins) == 1
    assert all(one.in_flight_max == 1 for one in timeline.bins)
    assert timeline.in_flight == 0
