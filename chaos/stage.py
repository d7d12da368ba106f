"""What faults act on: the cluster, the clients, the chance of the run, and a list of what was done."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

from chaos.client import LedgerClient
from chaos.cluster import ChaosCluster
from chaos.injection import Injection
from chaos.record import Record
from chaos.scenario import Scenario
from chaos.unit import Unit
from common.clock import Clock

__all__ = ["Stage"]


@final
@dataclass(slots=True, kw_only=True)
class Stage:
    """One run."""

    scenario: Scenario
    cluster: ChaosCluster
    clients: list[LedgerClient]
    """One per router."""
    clock: Clock
    rng: random.Random
    tell: Callable[[str], None]
    """Progress, for people."""
    injections: list[Injection] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict)
    """What faults measured themselves."""

    @property
    def records(self) -> list[Record]:
        """Of all clients."""
        return [record for client in self.clients for record in client.records]

    @property
    def in_flight(self) -> int:
        """Requests that run now."""
        return sum(client.in_flight for client in self.clients)

    @property
    def open_clients(self) -> list[LedgerClient]:
        """Those of routers that are not being restarted: what a load balancer with health checks would use."""
        pairs = zip(self.cluster.routers, self.clients, strict=False)
        return [
            client for unit, client in pairs if unit.is_ready and not unit.is_leaving
        ] or self.clients

    def streams_of(self, worker_id: str) -> int:
        """Streams that this worker feeds now."""
        now = self.clock.now()
        return sum(
            r.ended_at is None and r.worker_at(now) == worker_id for r in self.records[-2000:]
        )

    def note(self, what: str, *victims: Unit) -> None:
        """To be called right before a fault."""
        ids = tuple(unit.worker_id for unit in victims if unit.worker_id)
        hit = sum(self.streams_of(worker_id) for worker_id in ids)
        self.injections.append(
            Injection(
                at=self.clock.now(), what=what, victims=ids, in_flight=self.in_flight, hit=hit
            )
        )
        named = ", ".join(unit.name for unit in victims)
        self.tell(f"{what} {named} ({self.in_flight} in flight, {hit} hit)")

    def busy_worker(self) -> Unit:
        """A worker drawn among those that feed streams; among all when none does."""
        ready = [unit for unit in self.cluster.workers if unit.is_ready]
        busy = [unit for unit in ready if self.streams_of(unit.worker_id)]
        return self.rng.choice(busy or ready or self.cluster.workers)
