"""One run of one scenario: cluster up, reference, load, faults, quiet, ledger, verdict."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from chaos.checker import Faults, check
from chaos.client import LedgerClient
from chaos.cluster import ChaosCluster, ClusterWish, chaos_cluster
from chaos.faults import FAULTS
from chaos.load import Load
from chaos.measures import amplification, timings
from chaos.outcome import Outcome, judge
from chaos.requests import make_request
from chaos.scenario import FaultWish, Scenario
from chaos.scrape import scrape
from chaos.stage import Stage
from chaos.truth import OracleTruth, ReferenceTruth, Truth
from chaos.vitals import Holdings, held_by
from common.clock import Clock
from common.errors import Conflict, Reason

__all__ = ["run_scenario", "with_control"]

_QUIET_S: Final = 1.0
_FED_S_MAX: Final = 30.0


def with_control(scenario: Scenario) -> Scenario:
    """The scenario with its protection switched off. Raises `Conflict` when it names none."""
    control = scenario.control
    if control is None:
        raise Conflict(f"{scenario.name} has no control", reason=Reason.SETTING_INVALID)
    cluster = scenario.cluster.model_copy(
        update={
            "settings": {**scenario.cluster.settings, **control.settings},
            "workers": control.workers or scenario.cluster.workers,
        }
    )
    faults = tuple(
        fault.model_copy(update={"times": control.times or fault.times}) for fault in scenario.fault
    )
    expect = {name: bound for name, bound in scenario.expect.items() if name in control.breaks}
    return scenario.model_copy(update={"cluster": cluster, "fault": faults, "expect": expect})


async def run_scenario(
    scenario: Scenario,
    *,
    clock: Clock,
    seed: int = 1,
    control: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Raises `LeptonError` when the cluster cannot start. Everything is gone when it returns."""
    wanted = with_control(scenario) if control else scenario
    part = wanted.cluster
    wish = ClusterWish(
        workers=part.workers,
        routers=part.routers,
        engine=part.engine,
        settings={key: _text(value) for key, value in part.settings.items()},
        restart_s=part.restart_s,
    )
    began = clock.now()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="lepton-chaos-")))
        cluster = await stack.enter_async_context(chaos_cluster(wish, folder, clock))
        clients = [
            LedgerClient(address, clock, direct=wanted.load.direct) for address in cluster.addresses
        ]
        for client in clients:
            stack.push_async_callback(client.close)
        tell(f"{part.workers} workers ({part.engine}) after {clock.now() - began:.1f} s")
        stage = Stage(
            scenario=wanted,
            cluster=cluster,
            clients=clients,
            clock=clock,
            rng=random.Random(seed),
            tell=tell,
        )
        measures, faults = await _play(stage)
        verdict, why = judge(
            measures,
            wanted.expect,
            tuple(stage.injections),
            in_flight_min=wanted.load.in_flight_min,
        )
        return Outcome(
            scenario=scenario.name,
            promise=scenario.promise,
            title=scenario.title,
            seed=seed,
            control=control,
            verdict=verdict,
            why=why,
            measures=measures,
            expect=wanted.expect,
            errors=dict(faults.errors),
            stories=tuple(faults.stories),
            injections=tuple(stage.injections),
            took_s=clock.now() - began,
            deaths=tuple(cluster.events),
        )


async def _play(stage: Stage) -> tuple[dict[str, float], Faults]:
    truth = await _warm_up(stage)
    held = _holdings(stage.cluster)
    counted = await _router_counts(stage.cluster)
    made = await _generated(stage.cluster)
    wish = stage.scenario.load
    load = Load(wish, clients=lambda: stage.open_clients, clock=stage.clock, rng=stage.rng)
    async with asyncio.TaskGroup() as group:
        loading = group.create_task(load.run())
        try:
            await load.until_fed(min(wish.streams, wish.in_flight_min), _FED_S_MAX)
            await stage.clock.sleep(wish.calm_s)
            async with asyncio.TaskGroup() as beside:
                for fault in stage.scenario.fault:
                    doing = beside.create_task(_do(stage, fault))
                    if not fault.meanwhile:
                        await doing
            await stage.clock.sleep(wish.after_s)
        finally:
            ended_at = stage.clock.now()
            load.end()
        await loading
    await stage.clock.sleep(_QUIET_S)
    records = stage.records
    faults = check(records, truth, allowed=stage.scenario.allowed, revisions=truth.revisions)
    measures: dict[str, float] = {
        name: float(getattr(faults, name))
        for name in (
            *("requests", "whole", "tokens", "lost", "duplicated", "gapped", "reordered"),
            *("diverged", "wrong_revision", "ghosts"),
        )
    }
    measures["late_ms"] = 1e3 * max(0.0, faults.late)
    measures["moved"] = sum(len(record.migrations) for record in records)
    measures |= timings(records, stage.injections, calm_s=wish.calm_s, ended_at=ended_at)
    measures["worker_deaths"] = sum(unit.num_deaths for unit in stage.cluster.workers)
    measures |= await _after(stage, held, counted, made, faults.tokens)
    measures |= stage.measured
    return measures, faults


async def _warm_up(stage: Stage) -> Truth:
    """Every path is used once, so that what is held afterwards is what is normal."""
    wish, part = stage.scenario.load, stage.scenario.cluster
    truth: Truth
    if part.engine == "oracle":
        truth = OracleTruth()
    else:
        truth = await ReferenceTruth.ask(
            stage.clients[0], wish.kinds, distinct=wish.distinct, max_tokens=wish.max_tokens
        )
    for client in stage.clients:
        asks = (
            client.ask(make_request("greedy", number, 4), kind="warm-up", deadline_s=30.0)
            for number in range(4 * part.workers)
        )
        await asyncio.gather(*asks)
        client.records.clear()
    return truth


async def _do(stage: Stage, fault: FaultWish) -> None:
    act = FAULTS.get(fault.do)
    if act is None:
        known = ", ".join(FAULTS)
        raise Conflict(
            f"{stage.scenario.name}: no fault {fault.do!r}; there are {known}",
            reason=Reason.SETTING_INVALID,
        )
    for number in range(fault.times):
        if number:
            await stage.clock.sleep(fault.every_s)
        await act(stage, fault)


async def _after(
    stage: Stage,
    held: Mapping[int, Holdings],
    counted: Mapping[int, Mapping[str, float]],
    made: Mapping[int, float],
    num_received: int,
) -> dict[str, float]:
    """What the processes say, as far as they are the same as before."""
    found: dict[str, float] = {}
    after = _holdings(stage.cluster)
    same = held.keys() & after.keys()
    routers = {unit.pid for unit in stage.cluster.routers}
    if same & routers:
        found["leaked_files"] = max(after[p].files - held[p].files for p in same & routers)
        found["leaked_threads"] = max(after[p].threads - held[p].threads for p in same & routers)
        found["grown_mib"] = max((after[p].rss - held[p].rss) / 2**20 for p in same & routers)
    now = await _router_counts(stage.cluster)
    hit = sum(one.hit for one in stage.injections)
    ratios = [
        ratio
        for pid, counts in now.items()
        if pid in counted
        and (ratio := amplification(counted[pid], counts, num_hit=hit)) is not None
    ]
    if ratios:
        found["amplification"] = max(ratios)
    if now:
        found["left_in_flight"] = sum(c.get("lepton_requests_in_flight", 0) for c in now.values())
    generated = await _generated(stage.cluster)
    if generated.keys() == made.keys() and (num := sum(generated.values()) - sum(made.values())):
        found["ghost_share"] = max(0.0, (num - num_received) / num)
    return found


def _holdings(cluster: ChaosCluster) -> dict[int, Holdings]:
    found = {}
    for unit in cluster.units():
        if unit.pid is not None:
            with contextlib.suppress(OSError):
                found[unit.pid] = held_by(unit.pid)
    return found


async def _router_counts(cluster: ChaosCluster) -> dict[int, Mapping[str, float]]:
    return {
        unit.pid: await scrape(unit.facts["metrics_address"])
        for unit in cluster.routers
        if unit.pid is not None and unit.is_ready
    }


async def _generated(cluster: ChaosCluster) -> dict[int, float]:
    """Worker process → tokens that it has sent."""
    return {
        unit.pid: (await scrape(unit.facts["metrics_address"])).get(
            "lepton_generation_tokens_total", 0.0
        )
        for unit in cluster.workers
        if unit.pid is not None and unit.is_ready
    }


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
