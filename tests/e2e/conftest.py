"""A cluster of real processes per test: etcd, workers with the demo model, a router."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from agent.ports import free_port
from tests.support.etcd import EtcdServer
from tests.support.patience import PATIENCE_S
from tests.support.processes import DEMO_MODEL, LOCAL, LeptonProcess, ask, until, user

TOKEN = "e2e-cluster-token"


@dataclass(slots=True)
class Cluster:
    """Handles of everything that runs."""

    folder: Path
    etcd: EtcdServer
    env: dict[str, str] = field(default_factory=dict)
    workers: list[LeptonProcess] = field(default_factory=list)
    router: LeptonProcess | None = None
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    def _shared(self) -> dict[str, object]:
        return {
            "discovery.etcd-endpoints": self.etcd.endpoint,
            "discovery.snapshot-file": self.folder / "snapshot.json",
            "cluster.token": TOKEN,
            "telemetry.trace-dir": self.folder / "traces",
        }

    async def add_worker(self, **flags: object) -> LeptonProcess:
        """Starts one more worker with the demo model."""
        number = len(self.workers) + 1
        worker = LeptonProcess(
            "worker",
            {
                **self._shared(),
                "model_dir": DEMO_MODEL,
                "id": f"worker-{number}",
                "port": 0,
                "metrics_port": 0,
                "threads": 1,
                **flags,
            },
            env=self.env,
        )
        self.workers.append(worker)
        return await worker.start()

    async def start_router(self, **flags: object) -> LeptonProcess:
        """Starts the router, always on the same port, and waits until it sees every worker."""
        port = self.router.flags["port"] if self.router else free_port()
        self.router = LeptonProcess(
            "router",
            {**self._shared(), "port": port, "metrics_port": 0, **flags},
            env=self.env,
        )
        await self.router.start()
        await self.wait_for_workers(len(self.workers))
        return self.router

    async def num_workers(self) -> int:
        """How many workers the router lists."""
        from lepton.v1.inference_pb2 import ListModelsRequest
        from lepton.v1.inference_pb2_grpc import InferenceServiceStub

        try:
            models = await InferenceServiceStub(self.channel()).ListModels(
                ListModelsRequest(), timeout=PATIENCE_S
            )
        except grpc.aio.AioRpcError:
            return -1
        return sum(model.num_workers for model in models.models)

    async def wait_for_workers(self, count: int) -> None:
        async def seen() -> bool:
            return await self.num_workers() == count

        await until(seen, what=f"the router lists {count} workers")

    def channel(self, address: str | None = None) -> grpc.aio.Channel:
        """A channel to the router, or to `address`; closed with the cluster."""
        assert self.router is not None
        channel = grpc.aio.insecure_channel(address or self.router.address)
        self.channels.append(channel)
        return channel

    def worker(self, worker_id: str) -> LeptonProcess:
        return next(w for w in self.workers if w.flags["id"] == worker_id)


@pytest.fixture
async def make_cluster(tmp_path: Path) -> AsyncIterator[Callable[..., object]]:
    """`await make_cluster(workers=2, env={...}, migrations_max=0)` gives a `Cluster`, the rest being settings of its
    router; all of it ends with the test.
    """
    async with AsyncExitStack() as stack:

        async def make(
            *, workers: int = 2, env: dict[str, str] | None = None, **router: object
        ) -> Cluster:
            etcd = EtcdServer(tmp_path / "etcd")
            etcd.start()
            stack.callback(etcd.close)
            cluster = Cluster(folder=tmp_path, etcd=etcd, env=env or {})

            async def stop() -> None:
                for channel in cluster.channels:
                    await channel.close()
                for process in [cluster.router, *cluster.workers]:
                    if process is not None:
                        await process.stop()

            stack.push_async_callback(stop)
            for _ in range(workers):
                await cluster.add_worker()
            await cluster.start_router(**router)
            return cluster

        yield make


__all__ = ["LOCAL", "TOKEN", "Cluster", "ask", "user"]
