"""Kills on a cluster that somebody runs with `lepton up`, found by its state folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from dataclasses import dataclass
from typing import Final, Protocol

from agent.state import ClusterState, StateDir
from chaos.checker import check
from chaos.client import LedgerClient
from chaos.injection import Injection
from chaos.load import Load
from chaos.measures import amplification, timings
from chaos.outcome import Outcome, judge
from chaos.record import Record
from chaos.requests import make_request
from chaos.scenario import LoadWish
from chaos.scrape import scrape
from chaos.truth import OracleTruth, ReferenceTruth, Truth
from common.clock import Clock
from common.errors import Conflict, Reason, Unavailable

__all__ = ["LiveWish", "Watching", "kill_workers"]

_EXPECT: Final = {
    "lost": 0.0,
    "duplicated": 0.0,
    "gapped": 0.0,
    "reordered": 0.0,
    "diverged": 0.0,
    "wrong_revision": 0.0,
    "ghosts": 0.0,
    "amplification": 1.10,
}
_CALM_S: Final = 2.0
_REFUSALS: Final = frozenset({"QUEUE_FULL", "QUEUE_TIMEOUT", "WOULD_BE_LATE", "CALLER_QUEUE_FULL"})
"""What new requests may be told while the cluster is a worker short: those were never accepted."""
_AFTER_S: Final = 3.0
_FED_S_MAX: Final = 30.0
_TICK_S: Final = 0.05
_DISTINCT: Final = 4
_KINDS: Final = ("greedy", "seeded", "stop", "chat", "long")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveWish:
    """What to do."""

    streams: int
    kills: int
    every_s: float
    max_tokens: int
    model: str
    seed: int


class Watching(Protocol):
    """Who shows it. Called on the event loop; must not block."""

    def told(self, line: str) -> None:
        """Something happened."""

    def killed(self, worker_id: str, at: float) -> None:
        """Clock of the run, seconds."""

    def tick(self, streams: list[Record | None], now: float) -> None:
        """What every stream has now; about 20 times a second."""


async def kill_workers(state: StateDir, wish: LiveWish, clock: Clock, view: Watching) -> Outcome:
    """Load, kills, ledger. Leaves the cluster as it is; its agent starts again what died.

    Raises `Unavailable(UNREACHABLE)` without a running cluster, `Conflict` when it has fewer than two workers.
    """
    cluster = _read(state)
    workers = [one for one in cluster.processes if one.name.startswith("w") and one.pid]
    if len(workers) < 2:
        raise Conflict(
            f"the cluster has {len(workers)} worker; with `lepton up --workers 2` streams have where to go",
            reason=Reason.SETTING_INVALID,
        )
    began = clock.now()
    client = LedgerClient(cluster.address, clock)
    try:
        truth = await _truth(client, wish, view)
        load = Load(
            LoadWish(
                streams=wish.streams, kinds=_KINDS, distinct=_DISTINCT, max_tokens=wish.max_tokens
            ),
            clients=lambda: (client,),
            clock=clock,
            rng=random.Random(wish.seed),
            model=wish.model,
        )
        before = await scrape(cluster.metrics_address)
        injections, ended_at = await _play(state, wish, clock, view, load)
        after = await scrape(cluster.metrics_address)
    finally:
        await client.close()
    faults = check(client.records, truth, allowed=_REFUSALS, revisions=truth.revisions)
    measures = {name: float(getattr(faults, name, 0)) for name in (*_EXPECT, "requests", "tokens")}
    del measures["amplification"]
    measures |= timings(client.records, injections, calm_s=_CALM_S, ended_at=ended_at)
    measures["moved"] = sum(len(record.migrations) for record in client.records)
    hit = sum(one.hit for one in injections)
    if (ratio := amplification(before, after, num_hit=hit)) is not None:
        measures["amplification"] = ratio
    verdict, why = judge(measures, _EXPECT, tuple(injections), in_flight_min=1)
    return Outcome(
        scenario="kill-worker",
        promise="P01",
        title=f"{wish.kills} × SIGKILL of a busy worker under {wish.streams} streams",
        seed=wish.seed,
        control=False,
        verdict=verdict,
        why=why,
        measures=measures,
        expect=_EXPECT,
        errors=dict(faults.errors),
        stories=tuple(faults.stories),
        injections=tuple(injections),
        took_s=clock.now() - began,
    )


async def _play(
    state: StateDir, wish: LiveWish, clock: Clock, view: Watching, load: Load
) -> tuple[list[Injection], float]:
    injections: list[Injection] = []
    rng = random.Random(wish.seed)
    async with asyncio.TaskGroup() as group:
        ticking = group.create_task(_tick(load, clock, view))
        loading = group.create_task(load.run())
        try:
            if not await load.until_fed(max(1, wish.streams // 2), _FED_S_MAX):
                view.told("fewer than half of the streams have a token after 30 s; going on")
            await clock.sleep(_CALM_S)
            for number in range(wish.kills):
                if number:
                    await clock.sleep(wish.every_s)
                one = _kill(state, clock, load, rng)
                if one is not None:
                    injections.append(one)
                    view.killed(one.victims[0], one.at)
            await clock.sleep(_AFTER_S)
        finally:
            ended_at = clock.now()
            load.end()
        await loading
        ticking.cancel()
    return injections, ended_at


def _kill(state: StateDir, clock: Clock, load: Load, rng: random.Random) -> Injection | None:
    """A worker drawn among those that feed streams, or None when there is none of ours."""
    now = clock.now()
    running = [r for r in load.current if r is not None and r.ended_at is None]
    feeding = [worker for r in running if (worker := r.worker_at(now))]
    # The agent calls the n-th process in a place w1, w1-r1, w1-r2, …
    pids = {one.name: one.pid for one in _read(state).processes}
    known = sorted({worker for worker in feeding if pids.get(worker.partition("-r")[0])})
    if not known:
        return None
    victim = rng.choice(known)
    pid = pids[victim.partition("-r")[0]]
    one = Injection(
        at=now,
        what="SIGKILL",
        victims=(victim,),
        in_flight=len(running),
        hit=feeding.count(victim),
    )
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid or 0, signal.SIGKILL)
    return one


async def _tick(load: Load, clock: Clock, view: Watching) -> None:
    while True:
        view.tick(load.current, clock.now())
        await clock.sleep(_TICK_S)


async def _truth(client: LedgerClient, wish: LiveWish, view: Watching) -> Truth:
    first = await client.ask(
        make_request("greedy", 0, 1, model=wish.model), kind="first", deadline_s=30.0
    )
    client.records.clear()
    if first.started is None:
        raise Unavailable(first.message or "the cluster does not answer", reason=Reason.UNREACHABLE)
    if first.started.fingerprint == "oracle":
        return OracleTruth()
    view.told(f"asking {_DISTINCT * len(_KINDS)} requests undisturbed, to compare with")
    return await ReferenceTruth.ask(
        client, _KINDS, distinct=_DISTINCT, max_tokens=wish.max_tokens, model=wish.model
    )


def _read(state: StateDir) -> ClusterState:
    found = state.read()
    if found is None:
        raise Unavailable(
            f"no cluster runs from {state.path}; start one with `lepton up --workers 3`",
            reason=Reason.UNREACHABLE,
        )
    return found
