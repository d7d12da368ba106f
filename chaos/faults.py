"""What can break: name → how it is done to a stage. A fault notes itself right before it acts."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Awaitable, Callable
from typing import Final

from chaos.etcd_faults import compact_etcd, garbage_in_etcd
from chaos.load_faults import cancel_storm, poison, slow_readers, surge, vanish
from chaos.machine_faults import starve
from chaos.proxy import LinkFaults
from chaos.scenario import FaultWish
from chaos.stage import Stage
from chaos.unit import Unit

__all__ = ["FAULTS"]

_READY_S_MAX: Final = 30.0
_LOOK_S: Final = 0.05


async def _kill(stage: Stage, wish: FaultWish) -> None:
    """SIGKILL; with `for_s` it stays away that long. All workers but one are there when the next one is killed."""
    if wish.who == "worker":
        await _mostly_whole(stage)
    units = _units(stage, wish.who)
    stage.note("SIGKILL", *units)
    if not wish.for_s:
        for unit in units:
            unit.kill()
        return
    await asyncio.gather(*(unit.kill_for_good() for unit in units))
    await stage.clock.sleep(wish.for_s)
    await asyncio.gather(*(unit.start() for unit in units))


async def _freeze(stage: Stage, wish: FaultWish) -> None:
    """SIGSTOP for `for_s`, then SIGCONT."""
    units = _units(stage, wish.who)
    stage.note("SIGSTOP", *units)
    for unit in units:
        unit.freeze()
    await stage.clock.sleep(wish.for_s)
    for unit in units:
        unit.thaw()
    stage.tell("SIGCONT")


async def _restart(stage: Stage, wish: FaultWish) -> None:
    """SIGTERM and start again, one after another; `who` may be `everything`."""
    cluster = stage.cluster
    units = (
        [*cluster.workers, *cluster.routers, *([cluster.etcd] if cluster.etcd else [])]
        if wish.who == "everything"
        else _units(stage, wish.who)
    )
    for unit in units:
        stage.note("SIGTERM", unit)
        await unit.stop()
        await unit.start()
        async with asyncio.timeout(_READY_S_MAX):
            await cluster.until_listed(len(cluster.workers))


async def _nothing(stage: Stage, wish: FaultWish) -> None:
    """Only the load itself, for `for_s`."""
    stage.note("nothing breaks")
    await stage.clock.sleep(wish.for_s)


async def _black_hole(stage: Stage, wish: FaultWish) -> None:
    """Nothing passes to or from it for `for_s`; connections stay."""
    units = _units(stage, wish.who)
    stage.note("black hole", *units)
    for unit in units:
        if unit.proxy is not None:
            unit.proxy.black_hole()
    await stage.clock.sleep(wish.for_s)
    for unit in units:
        if unit.proxy is not None:
            unit.proxy.heal()
    stage.tell("healed")


async def _reset(stage: Stage, wish: FaultWish) -> None:
    """RST on every connection to it."""
    units = _units(stage, wish.who)
    stage.note("RST", *units)
    for unit in units:
        if unit.proxy is not None:
            unit.proxy.reset()


async def _half_close(stage: Stage, wish: FaultWish) -> None:
    """FIN from it on every connection, which stays open the other way."""
    units = _units(stage, wish.who)
    stage.note("FIN", *units)
    for unit in units:
        if unit.proxy is not None:
            unit.proxy.half_close()


async def _bad_links(stage: Stage, wish: FaultWish) -> None:
    """`args` as `LinkFaults`, on all links to workers, for `for_s`."""
    stage.note(f"links {dict(wish.args)}", *stage.cluster.workers)
    for unit in stage.cluster.workers:
        if unit.proxy is not None:
            unit.proxy.faults = LinkFaults(**wish.args)
    await stage.clock.sleep(wish.for_s)
    for unit in stage.cluster.workers:
        if unit.proxy is not None:
            unit.proxy.heal()


async def _swizzle_clog(stage: Stage, wish: FaultWish) -> None:
    """Links of a drawn part of the workers are clogged one by one, and freed in another order (FoundationDB)."""
    workers = stage.cluster.workers
    chosen = stage.rng.sample(workers, stage.rng.randint(1, max(1, len(workers) - 1)))
    pause_s = wish.for_s / (2 * len(chosen))
    for unit in chosen:
        stage.note("clog", unit)
        if unit.proxy is not None:
            unit.proxy.black_hole()
        await stage.clock.sleep(pause_s)
    for unit in stage.rng.sample(chosen, len(chosen)):
        if unit.proxy is not None:
            unit.proxy.heal()
        await stage.clock.sleep(pause_s)


async def _add_worker(stage: Stage, wish: FaultWish) -> None:
    """One more worker joins; `args` are its flags, for example `oracle__slow`."""
    flags = {key: str(value) for key, value in wish.args.items()}
    unit = await stage.cluster.add_worker(**flags)
    stage.note(f"joins {flags}", unit)
    await stage.clock.sleep(wish.for_s)


async def _wipe_etcd(stage: Stage, wish: FaultWish) -> None:
    """SIGKILL, its data is gone, it comes back empty after `for_s`; measures until a new worker is seen."""
    etcd, cluster = stage.cluster.etcd, stage.cluster
    if etcd is None:
        return
    stage.note("etcd is wiped")
    await etcd.kill_for_good()
    shutil.rmtree(cluster.plan.state.etcd, ignore_errors=True)
    await stage.clock.sleep(wish.for_s)
    await etcd.start()
    back_at = stage.clock.now()
    await cluster.add_worker()
    joined_at = stage.clock.now()
    async with asyncio.timeout(_READY_S_MAX):
        await cluster.until_listed(len(cluster.workers))
    stage.measured["resync_ms"] = 1e3 * (stage.clock.now() - max(back_at, joined_at))


async def _mostly_whole(stage: Stage) -> None:
    """A promise about one worker that dies says nothing about the last one; a busy machine restarts slowly."""
    workers = stage.cluster.workers
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_READY_S_MAX):
            while sum(unit.is_ready for unit in workers) < min(
                len(workers), max(2, len(workers) - 1)
            ):
                await stage.clock.sleep(_LOOK_S)


def _units(stage: Stage, who: str) -> list[Unit]:
    cluster = stage.cluster
    match who:
        case "worker":
            return [stage.busy_worker()]
        case "workers":
            return list(cluster.workers)
        case "router":
            return [stage.rng.choice(cluster.routers)]
        case "etcd":
            return [cluster.etcd] if cluster.etcd is not None else []
        case _:
            return [unit for unit in cluster.units() if unit.name == who]


FAULTS: Final[dict[str, Callable[[Stage, FaultWish], Awaitable[None]]]] = {
    "kill": _kill,
    "freeze": _freeze,
    "nothing": _nothing,
    "restart": _restart,
    "black_hole": _black_hole,
    "reset": _reset,
    "half_close": _half_close,
    "bad_links": _bad_links,
    "swizzle_clog": _swizzle_clog,
    "add_worker": _add_worker,
    "wipe_etcd": _wipe_etcd,
    "compact_etcd": compact_etcd,
    "garbage_in_etcd": garbage_in_etcd,
    "poison": poison,
    "surge": surge,
    "cancel_storm": cancel_storm,
    "slow_readers": slow_readers,
    "vanish": vanish,
    "starve": starve,
}
"""Every fault that a scenario may name."""
