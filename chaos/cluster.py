"""A cluster of real processes for one run: etcd, routers, workers, a fault proxy in front of each.

client ──proxy──> router ──proxy──> worker
                     └────proxy──> etcd <──proxy────┘   (one for routers, one for workers)
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, final

from pydantic import SecretStr

from agent.front_door import wait_models
from agent.models import ModelChoice, find_demo
from agent.plan import ClusterPlan, make_plan
from agent.ports import free_port
from agent.roles import etcd_role, router_role, worker_role
from agent.settings import AgentSettings
from agent.state import StateDir
from agent.supervisor import Role
from chaos.proxy import FaultProxy
from chaos.unit import Unit
from common.clock import Clock

__all__ = ["MODEL", "ChaosCluster", "ClusterWish", "chaos_cluster"]

MODEL: Final = "model"
"""What requests call the model, oracle or demo."""

_TOKEN: Final = "token-of-a-test-cluster"  # noqa: S105 - for a cluster on loopback that lives for a minute


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterWish:
    """What to start."""

    workers: int
    routers: int = 1
    engine: str = "oracle"
    """`oracle`, or `demo` for the demo model."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """ "section.key" → value, for every process that has the section."""
    restart_s: float = 0.2
    """Wait before a process that died is started again."""


@final
class ChaosCluster:
    """Made by `chaos_cluster`."""

    def __init__(self, wish: ClusterWish, plan: ClusterPlan, clock: Clock, stack: AsyncExitStack):
        self.wish = wish
        self.plan = plan
        self.clock = clock
        self.etcd: Unit | None = None
        self.etcd_links: list[FaultProxy] = []
        """Between etcd and the routers, and between etcd and the workers."""
        self.routers: list[Unit] = []
        self.workers: list[Unit] = []
        self.events: list[str] = []
        """Ends of processes, in words."""
        self._stack = stack
        self._settings = AgentSettings(
            restart_s_first=wish.restart_s, restart_s_max=wish.restart_s, crashes_max=100_000
        )

    @property
    def addresses(self) -> list[str]:
        """Of the routers, through their proxies."""
        return [unit.proxy.address for unit in self.routers if unit.proxy is not None]

    def units(self) -> list[Unit]:
        """Every process."""
        return [*self.routers, *self.workers, *([self.etcd] if self.etcd else [])]

    async def start(self) -> None:
        """Returns when the first router lists every worker."""
        if self.plan.etcd is not None:
            role = etcd_role(self.plan, self.plan.etcd, self._settings, self.clock)
            self.etcd = self._unit(role, None)
            await self.etcd.start()
            for _ in range(2):
                self.etcd_links.append(await self._proxy(self.plan.etcd.ports.endpoint))
        workers = [await self._new_worker() for _ in range(self.wish.workers)]
        routers = [await self._new_router() for _ in range(self.wish.routers)]
        await asyncio.gather(*(unit.start() for unit in (*workers, *routers)))
        await self.until_listed(self.wish.workers)

    async def until_listed(self, num_workers: int) -> None:
        """Returns when every router lists so many workers. Never gives up; the caller sets a bound."""
        for unit in self.routers:
            address = f"127.0.0.1:{unit.facts['address'].rpartition(':')[2]}"
            await wait_models(address, Counter({MODEL: num_workers}), self.clock)

    async def add_worker(self, **more: str) -> Unit:
        """One more; `more` are flags, with `_` for `-` and `__` for the dot behind a section."""
        unit = await self._new_worker(**more)
        await unit.start()
        return unit

    async def close(self) -> None:
        """Ends everything, routers first."""
        for part in (self.routers, self.workers, [self.etcd] if self.etcd else []):
            await asyncio.gather(*(unit.close() for unit in part))

    @property
    def token(self) -> SecretStr:
        """What routers and workers show to each other."""
        return SecretStr(_TOKEN)

    async def _new_worker(self, **more: str) -> Unit:
        port = free_port()
        proxy = await self._proxy(f"127.0.0.1:{port}")
        number = len(self.workers) + 1
        worker = replace(self.plan.workers[0], name=f"w{number}")
        flags = {
            "port": str(port),
            "advertise": proxy.address,
            **self._etcd_flags(1),
            **self._own("worker", "oracle", "discovery", "limits", "telemetry"),
            **{key.replace("__", ".").replace("_", "-"): value for key, value in more.items()},
        }
        if self.wish.engine == "oracle":
            flags["engine"] = "oracle"
        role = worker_role(self.plan, worker, self._settings, self.token, more=flags)
        unit = self._unit(role, proxy)
        self.workers.append(unit)
        return unit

    async def _new_router(self) -> Unit:
        number, port = len(self.routers), free_port()
        flags = {
            "port": str(port),
            "metrics-port": "0",
            "gateway.port": "0",
            "discovery.snapshot-file": str(self.plan.state.path / f"snapshot-{number}.json"),
            **self._etcd_flags(0),
            **self._own("router", "discovery", "limits", "telemetry"),
        }
        name = f"router{number + 1}"
        role = router_role(self.plan, self._settings, self.token, name=name, more=flags)
        proxy = await self._proxy(f"127.0.0.1:{port}")
        unit = self._unit(role, proxy)
        self.routers.append(unit)
        return unit

    def _own(self, *sections: str) -> dict[str, str]:
        wanted = self.wish.settings.items()
        return {
            key.replace("_", "-"): value for key, value in wanted if key.split(".")[0] in sections
        }

    def _etcd_flags(self, link: int) -> dict[str, str]:
        if not self.etcd_links:
            return {}
        return {"discovery.etcd-endpoints": self.etcd_links[link].address}

    def _unit(self, role: Role, proxy: FaultProxy | None) -> Unit:
        return Unit(
            role,
            settings=self._settings,
            clock=self.clock,
            on_end=self.events.append,
            proxy=proxy,
        )

    async def _proxy(self, target: str) -> FaultProxy:
        return await self._stack.enter_async_context(FaultProxy(target, self.clock))


@asynccontextmanager
async def chaos_cluster(
    wish: ClusterWish, folder: Path, clock: Clock
) -> AsyncIterator[ChaosCluster]:
    """A cluster that serves; everything of it ends with the block, also when this process is killed.

    Raises `LeptonError` when it cannot start.
    """
    state = StateDir(folder)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LEPTON_", "OTEL_"))}
    with state.lock():
        state.prepare()
        plan = make_plan(
            state=state,
            settings=AgentSettings(),
            models=(ModelChoice(name=MODEL, folder=find_demo().folder),),
            workers=max(1, wish.workers),
            env=env,
        )
        async with AsyncExitStack() as stack:
            cluster = ChaosCluster(wish, plan, clock, stack)
            try:
                await cluster.start()
                yield cluster
            finally:
                await cluster.close()
