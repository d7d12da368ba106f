"""What is asked and when comes from the seed alone; the open loop waits for nobody."""

from __future__ import annotations

import itertools
import random
import threading

import pytest

from cli.bench.lengths import parse_lengths
from cli.bench.measure import Sample
from cli.bench.run import NOT_SENT, Load, run_load
from cli.bench.timeline import Timeline
from cli.bench.workload import Ask, Workload, poisson_arrivals
from cli.request import GenerateOptions
from common.clock import SystemClock
from lepton.v1 import types_pb2
from tests.support.scripted_server import scripted_server

LENGTHS = parse_lengths("lognormal:40,0.8", field="x")


def workload(seed: int = 1) -> Workload:
    return Workload(
        seed=seed,
        prompt_tokens=LENGTHS,
        shared_prefix_tokens=10,
        prefix_groups=3,
        vocabulary=range(100, 200),
        output_tokens=parse_lengths("uniform:2-9", field="x"),
        cancel_share=0.3,
    )


def ids(ask: Ask) -> tuple[int, ...]:
    assert isinstance(ask.prompt, types_pb2.TokenIds)
    return tuple(ask.prompt.ids)


def test_a_request_is_the_same_in_whatever_order_it_is_asked_for() -> None:
    one, other = workload(), workload()
    forward = [one.ask(index) for index in range(50)]
    backward = [other.ask(index) for index in reversed(range(50))][::-1]
    assert forward == backward
    assert forward != [workload(seed=2).ask(index) for index in range(50)]


def test_prompts_begin_alike_within_a_group_and_nowhere_else() -> None:
    prompts = [ids(workload().ask(index)) for index in range(200)]
    assert len({prompt[:10] for prompt in prompts}) == 3
    assert len({prompt[10:14] for prompt in prompts}) > 190
    assert all(100 <= token < 200 for prompt in prompts for token in prompt)


def test_about_that_share_of_the_clients_goes_away_early() -> None:
    gone = [
        ask.cancel_after for index in range(1000) if (ask := workload().ask(index)).cancel_after
    ]
    assert 250 < len(gone) < 350
    assert set(gone) <= set(range(1, 9))


@pytest.mark.parametrize(
    ("text", "low", "high", "mean"),
    [
        ("7", 7, 7, 7),
        ("fixed:7", 7, 7, 7),
        ("uniform:10-30", 10, 30, 20),
        (
            "lognormal:100,0.5",
            1,
            1600,
            100 * 1.1331,
        ),  # mean of a lognormal: median · exp(sigma² / 2)
    ],
)
def test_lengths(text: str, low: int, high: int, mean: float) -> None:
    lengths, rng = parse_lengths(text, field="x"), random.Random(5)
    drawn = [lengths.draw(rng) for _ in range(20_000)]
    assert low <= min(drawn) <= max(drawn) <= high == lengths.max
    assert sum(drawn) / len(drawn) == pytest.approx(mean, rel=0.03)


def test_arrivals_are_a_poisson_process_of_that_rate() -> None:
    arrivals = list(itertools.islice(poisson_arrivals(50.0, seed=3), 20_000))
    assert arrivals == list(itertools.islice(poisson_arrivals(50.0, seed=3), 20_000))
    gaps = [after - before for before, after in itertools.pairwise(arrivals)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1 / 50, rel=0.03)
    assert deviation == pytest.approx(mean, rel=0.03)  # exponential: both are the same


async def test_the_open_loop_does_not_wait_for_answers_and_bounds_what_is_under_way() -> None:
    """The server answers nobody until three requests could not leave."""
    samples: list[Sample] = []
    timeline = Timeline()
    load = Load(
        requests=5,
        rate=10_000.0,
        in_flight_max=2,
        workload=Workload(),
        options=GenerateOptions(),
    )

    with scripted_server(hold=threading.Event()) as server:

        def on_sample(sample: Sample) -> None:
            samples.append(sample)
            if sum(one.error == NOT_SENT for one in samples) == 3:
                assert server.hold is not None
                server.hold.set()

        await run_load(server.address, load, SystemClock(), on_sample=on_sample, timeline=timeline)
        assert len(server.requests) == 2
    assert [one.error for one in samples] == [NOT_SENT] * 3 + [""] * 2
    assert timeline.in_flight_max == 2
    assert timeline.in_flight == 0
    planned = list(itertools.islice(poisson_arrivals(10_000.0, seed=0), 5))
    first = min(one.planned_s for one in samples)
    assert sorted(one.planned_s - first for one in samples) == pytest.approx(
        [at - planned[0] for at in planned], abs=1e-6
    )
    assert all(one.late_s >= 0 for one in samples)
