"""What a case runs against: a cluster of real processes with gates in front, its faults, and a look at its workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, final

import grpc

from agent.ports import free_port
from chaos.cluster import ChaosCluster, ClusterWish, chaos_cluster
from chaos.unit import Unit
from common.clock import Clock
from common.rpc.metadata import CLUSTER_TOKEN_KEY
from lepton.v1 import worker_pb2, worker_pb2_grpc
from tests.conformance.case import Case, Fault, Lane, Seen
from tests.conformance.gate import Gate, Script
from tests.support.certificate import make_certificate

__all__ = ["Stage", "open_stage"]

_ORACLE: Final = ClusterWish(workers=2, routers=2, settings={"oracle.step_ms": "2"})
"""Fast enough for 2,000 tokens in a few seconds, slow enough to be hit in the middle."""

_WISHES: Final[dict[Lane, ClusterWish]] = {
    "demo": ClusterWish(workers=2, engine="demo"),
    "oracle": _ORACLE,
    "broken": _ORACLE,
}
_HEAL_S_MAX: Final = 30.0


@final
class Stage:
    """One cluster and the gates before it; cases run one after another. Made by `open_stage`."""

    def __init__(self, cluster: ChaosCluster, clock: Clock, stack: AsyncExitStack) -> None:
        self._cluster = cluster
        self._clock = clock
        self._stack = stack
        self._routers: dict[str, tuple[Gate, Unit]] = {}
        self._workers: dict[str, Gate] = {}
        """By the address that the worker has registered."""
        self._script = Script(clock=clock)
        self._own, self._other = make_certificate(), make_certificate()
        self._case: Case | None = None
        self._num_faults = 0

    async def open(self) -> None:
        """Gates before all routers."""
        for number, (unit, address) in enumerate(
            zip(self._cluster.routers, self._cluster.addresses, strict=True)
        ):
            name = f"router{number + 1}"
            made = Gate(name, address, self._clock, certificate=self._own)
            gate = await self._stack.enter_async_context(made)
            self._routers[name] = (gate, unit)

    def begin(self, case: Case) -> dict[str, Any]:
        """What the driver is told; from now on everything counts for this case."""
        self._case = case
        self._num_faults = 0
        self._script = Script(
            clock=self._clock,
            refusals=list(case.fault.refusals),
            adds_unknown=case.fault.adds_unknown,
            unknown_finish=case.fault.unknown_finish,
            drains_after_events=case.fault.drains_after_events,
            on_events=self._on_events,
            worker_gate=self._worker_gate,
        )
        gates = [gate for gate, _ in self._routers.values()]
        for gate in (*gates, *self._workers.values()):
            gate.script = self._script
        options = dict(case.command.options)
        addresses = [gate.address for gate in gates]
        if case.tls is not None:
            addresses = [gate.tls_address for gate in gates]
            authority = self._own if case.tls == "trusted" else self._other
            options["tls_ca"] = authority.chain.decode()
        if case.fault.first_router_down:
            self._num_faults += 1
            addresses.insert(0, f"127.0.0.1:{free_port()}")
        return {
            "op": case.command.op,
            "addresses": addresses,
            "request": case.command.request,
            "options": options,
        }

    async def end(self, case: Case) -> Seen:
        """What was seen; the cluster is whole again afterwards."""
        idle_after_s = None
        if case.expect.idle_within_s is not None:
            idle_after_s = await self._idle_after(case.expect.idle_within_s)
        seen = Seen(
            calls=self._script.calls,
            num_faults=self._num_faults + self._num_refused(case.fault),
            idle_after_s=idle_after_s,
        )
        if case.fault.kills and self._num_faults:
            await self._heal()
        return seen

    def _num_refused(self, fault: Fault) -> int:
        has_drained = fault.drains_after_events is not None
        has_drained &= self._script.drains_after_events is None
        return len(fault.refusals) - len(self._script.refusals) + has_drained

    async def _heal(self) -> None:
        for gate, _ in self._routers.values():
            gate.heal()
        units = (*self._cluster.routers, *self._cluster.workers)
        for unit in units:
            if not await unit.ready(_HEAL_S_MAX):
                raise RuntimeError(f"{unit.name} did not come back: {self._cluster.events[-3:]}")
        await self._cluster.until_listed(len(self._cluster.workers))

    async def _on_events(self, gate: Gate) -> None:
        if self._case is None or self._num_faults:
            return
        fault, num = self._case.fault, self._script.num_events
        if fault.cut_after_events is not None and num >= fault.cut_after_events:
            self._num_faults += 1
            gate.cut()
        if fault.kill_router_after_events is not None and num >= fault.kill_router_after_events:
            self._num_faults += 1
            gate.close_door()
            self._routers[gate.name][1].kill()
        if fault.kill_worker_after_events is not None and num >= fault.kill_worker_after_events:
            self._num_faults += 1
            self._kill_worker(self._script.worker_id)

    def _kill_worker(self, worker_id: str) -> None:
        victim = next(u for u in self._cluster.workers if u.worker_id == worker_id)
        victim.kill()

    async def _worker_gate(self, address: str) -> str:
        if address not in self._workers:
            gate = Gate(f"worker at {address}", address, self._clock)
            self._workers[address] = await self._stack.enter_async_context(gate)
        gate = self._workers[address]
        gate.script = self._script
        return gate.address

    async def _idle_after(self, within_s: float) -> float | None:
        begin = self._clock.now()
        while self._clock.now() - begin <= within_s:
            if not [unit for unit in self._cluster.workers if await self._computes(unit)]:
                return self._clock.now() - begin
            await self._clock.sleep(0.02)
        return None

    async def _computes(self, unit: Unit) -> bool:
        assert unit.proxy is not None
        async with grpc.aio.insecure_channel(unit.proxy.address) as channel:
            stub = worker_pb2_grpc.WorkerServiceStub(channel)
            call = stub.WatchLoad(
                worker_pb2.WatchLoadRequest(router_id="conformance"),
                metadata=((CLUSTER_TOKEN_KEY, self._cluster.token.get_secret_value()),),
                timeout=5,
            )
            load = await call.read()
            call.cancel()
            return bool(load.running or load.waiting)


@asynccontextmanager
async def open_stage(lane: Lane, folder: Path, clock: Clock) -> AsyncIterator[Stage]:
    """A cluster that serves. Raises `LeptonError` when it cannot start."""
    async with (
        chaos_cluster(_WISHES[lane], folder, clock) as cluster,
        AsyncExitStack() as stack,
    ):
        stage = Stage(cluster, clock, stack)
        await stage.open()
        yield stage
