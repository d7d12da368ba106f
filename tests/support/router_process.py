"""A real router process in front of a fake worker that lives in the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc

from common.clock import SystemClock
from common.discovery.directory import DirectoryRegistrar
from tests.support.fake_worker import FakeWorker
from tests.support.processes import LeptonProcess

__all__ = ["cluster"]


@asynccontextmanager
async def cluster(
    folder: Path, worker: FakeWorker, **flags: object
) -> AsyncIterator[tuple[LeptonProcess, grpc.aio.Channel]]:
    """A router process that has found `worker` in the registry directory `folder`."""
    await worker.start()
    registrar = DirectoryRegistrar(folder, SystemClock(), poll_s=0.05)
    registration = await registrar.register(worker.instance())
    router = LeptonProcess(
        "router",
        {
            "port": 0,
            "metrics_port": 0,
            "drain_delay_s": 0,
            "discovery.registry_dir": folder,
            "discovery.poll_s": 0.05,
            **flags,
        },
    )
    try:
        await router.start()
        async with grpc.aio.insecure_channel(router.address) as channel:
            yield router, channel
    finally:
        await router.stop()
        await registration.close()
        await worker.stop()
