"""The most important promises in short: fewer faults, the same ledger. `make chaos` has all of them."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.outcome import Outcome
from chaos.run import run_scenario
from chaos.scenario import Scenario, load_scenario
from common.clock import SystemClock

pytestmark = [pytest.mark.chaos, pytest.mark.e2e, pytest.mark.etcd]


def short(name: str, *, streams: int = 12, in_flight_min: int = 6, **fault: Any) -> Scenario:
    """The scenario with a smaller load, and each fault changed so."""
    scenario = load_scenario(name)
    load = scenario.load.model_copy(
        update={
            "streams": streams,
            "in_flight_min": in_flight_min,
            "max_tokens": 60,
            "calm_s": 1.0,
            "after_s": 1.0,
        }
    )
    # What has to do with time is judged on a quiet machine, not here.
    expect = {k: v for k, v in scenario.expect.items() if "_ms" not in k and k != "amplification"}
    faults = tuple(one.model_copy(update=fault) for one in scenario.fault)
    return scenario.model_copy(update={"load": load, "fault": faults, "expect": expect})


async def judged(scenario: Scenario, *, control: bool = False) -> Outcome:
    outcome = await run_scenario(scenario, clock=SystemClock(), seed=7, control=control)
    assert outcome.verdict != "void", outcome.why
    return outcome


async def test_two_killed_workers_cost_nothing() -> None:
    outcome = await judged(short("kill-worker", times=2, every_s=2.0))
    assert outcome.verdict == "pass", (outcome.why, outcome.stories)
    assert outcome.measures["moved"] > 0


async def test_without_migration_a_killed_worker_costs_its_streams() -> None:
    outcome = await judged(short("kill-worker", times=1), control=True)
    assert outcome.is_right, outcome.measures
    assert outcome.errors["WORKER_LOST"] > 0


async def test_a_frozen_worker_costs_nothing_and_says_nothing_afterwards() -> None:
    outcome = await judged(short("freeze-worker", times=1, for_s=7.0))
    assert outcome.verdict == "pass", (outcome.why, outcome.stories)
    assert outcome.measures["moved"] > 0


async def test_etcd_away_and_back_costs_nothing() -> None:
    scenario = short("etcd-trouble", for_s=1.0)
    outcome = await judged(scenario)
    assert outcome.verdict == "pass", (outcome.why, outcome.stories)


async def test_a_run_without_load_is_void() -> None:
    scenario = short("kill-worker", streams=1, in_flight_min=5, times=1)
    load = scenario.load.model_copy(update={"calm_s": 0.0, "after_s": 0.0})
    outcome = await run_scenario(
        scenario.model_copy(
            update={
                "load": load,
                "cluster": scenario.cluster.model_copy(update={"workers": 1}),
                "fault": (load_scenario("deadlines").fault[0].model_copy(update={"for_s": 0.0}),),
            }
        ),
        clock=SystemClock(),
    )
    assert outcome.verdict == "void"
