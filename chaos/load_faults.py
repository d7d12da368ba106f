"""Faults that clients make: poison, floods, storms of cancellations, readers that do not read, clients that vanish."""

from __future__ import annotations

import asyncio
import itertools
from typing import Final

from chaos.client import LedgerClient
from chaos.measures import p99
from chaos.record import Record
from chaos.requests import make_request
from chaos.scenario import FaultWish
from chaos.scrape import scrape
from chaos.stage import Stage

__all__ = ["cancel_storm", "poison", "slow_readers", "surge", "vanish"]

_LOOK_S: Final = 0.01
_STOP_S_MAX: Final = 20.0
_REFUSALS: Final = frozenset({"QUEUE_FULL", "QUEUE_TIMEOUT", "WOULD_BE_LATE", "CALLER_QUEUE_FULL"})


async def poison(stage: Stage, wish: FaultWish) -> None:
    """A request that ends every worker that runs it, and then the same once more; measures whether it was refused."""
    stage.note("poison")
    request = make_request("greedy", 0, 50)
    request.text = "[[oracle abort 3]]" + request.text
    deaths = sum(unit.num_deaths for unit in stage.cluster.workers)
    first = await stage.clients[0].ask(request, kind="poison", deadline_s=30.0)
    again = await stage.clients[0].ask(request, kind="poison", deadline_s=30.0)
    await stage.clock.sleep(wish.for_s)
    deaths = sum(unit.num_deaths for unit in stage.cluster.workers) - deaths
    stage.measured["poison_deaths"] = deaths
    stage.measured["poison_refused_min"] = float({first.reason, again.reason} == {"POISON_REQUEST"})


async def surge(stage: Stage, wish: FaultWish) -> None:
    """Open loop: `factor` times the rate of before arrives for `for_s`, whatever becomes of it."""
    load, now = stage.scenario.load, stage.clock.now()
    began = now - load.calm_s
    before = [r for r in stage.records if r.is_whole and (r.ended_at or 0) > began]
    rate = float(wish.args.get("factor", 5)) * max(1, len(before)) / load.calm_s
    stage.note(f"{rate:.0f} requests a second")
    deadline_s = float(wish.args.get("deadline_s", 5.0))
    async with asyncio.TaskGroup() as group:
        while stage.clock.now() < now + wish.for_s:
            kind = stage.rng.choice(load.kinds)
            request = make_request(kind, stage.rng.randrange(load.distinct), load.max_tokens)
            client = stage.rng.choice(stage.clients)
            group.create_task(client.ask(request, kind=kind, deadline_s=deadline_s))
            await stage.clock.sleep(stage.rng.expovariate(rate))
        ended = stage.clock.now()
    stage.note("the flood ends")
    settled = now + 1.0
    during = [r for r in stage.records if r.is_whole and settled < (r.ended_at or 0) <= ended]
    refused = [r for r in stage.records if r.sent_at > now and r.reason in _REFUSALS]
    goodput = sum(r.num_tokens for r in during) / (ended - settled)
    usual = sum(r.num_tokens for r in before) / load.calm_s
    stage.measured["goodput_ratio_min"] = goodput / usual if usual else 0.0
    stage.measured["accepted_p99_ratio"] = _lasting(during) / max(1e-9, _lasting(before))
    stage.measured["refusal_ms_p99"] = 1e3 * _lasting(refused)
    stage.measured["refused"] = len(refused)


async def cancel_storm(stage: Stage, wish: FaultWish) -> None:
    """`num` requests, each given up after its first message; measures until no worker computes."""
    num = int(wish.args.get("num", 100))
    client = stage.clients[0]
    asks = [
        client.ask(
            make_request("seeded", number, 1000), kind="cancelled", deadline_s=60.0, cancel_after=3
        )
        for number in range(num)
    ]
    tasks = [asyncio.ensure_future(ask) for ask in asks]
    await asyncio.sleep(0)  # noqa: TID251 - lets them send
    stage.note(f"{num} requests are cancelled after their first tokens")
    await asyncio.gather(*tasks)
    stage.measured["stop_ms"] = 1e3 * await _until_idle(stage)


async def vanish(stage: Stage, wish: FaultWish) -> None:
    """`num` clients are cut off without a word while they stream; measures until no worker computes."""
    proxy = stage.cluster.routers[0].proxy
    if proxy is None:
        return
    client = LedgerClient(proxy.address, stage.clock)
    records = [
        client.record(make_request("seeded", number, 2000), kind="vanished", deadline_s=120.0)
        for number in range(int(wish.args.get("num", 10)))
    ]
    stage.clients.append(client)
    tasks = [asyncio.ensure_future(client.run(record)) for record in records]
    while not all(record.num_tokens for record in records):
        await stage.clock.sleep(_LOOK_S)
    stage.note("clients vanish")
    proxy.black_hole()
    try:
        stage.measured["stop_ms"] = 1e3 * await _until_idle(stage)
    finally:
        proxy.reset()
        proxy.heal()
        for record in records:
            record.cancelled_at = stage.clock.now()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()


async def slow_readers(stage: Stage, wish: FaultWish) -> None:
    """`num` streams that nobody reads, for `for_s`; measures how much wider the gaps of the others are."""
    began = stage.clock.now()
    before = p99(_gaps(stage.records, began - stage.scenario.load.calm_s, began))
    client = LedgerClient(stage.cluster.addresses[0], stage.clock)
    stage.note("streams that nobody reads")
    calls = [
        client.open(make_request("logprobs", number, 3500), deadline_s=120.0)
        for number in range(int(wish.args.get("num", 20)))
    ]
    await stage.clock.sleep(wish.for_s)
    during = p99(_gaps(stage.records, began + 1.0, stage.clock.now()))
    stage.measured["neighbour_gap_ratio"] = during / before if before else 0.0
    for call in calls:
        call.cancel()
    await client.close()


def _lasting(records: list[Record]) -> float:
    return p99([r.ended_at - r.sent_at for r in records if r.ended_at is not None])


def _gaps(records: list[Record], since: float, until: float) -> list[float]:
    gaps: list[float] = []
    for record in records:
        times = [at for at in record.token_times if since <= at <= until]
        gaps += (b - a for a, b in itertools.pairwise(times))
    return gaps


async def _until_idle(stage: Stage) -> float:
    """Seconds until no worker computes anything; the bound when one still does."""
    began = stage.clock.now()
    while (took_s := stage.clock.now() - began) < _STOP_S_MAX:
        counts = [
            await scrape(unit.facts["metrics_address"])
            for unit in stage.cluster.workers
            if unit.is_ready
        ]
        if not any(count.get("lepton_num_requests_running", 0) for count in counts):
            return took_s
        await stage.clock.sleep(_LOOK_S)
    return took_s
