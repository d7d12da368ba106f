"""Several router processes on one port: shared, restarted, drained, and gone with their parent."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc

from lepton.v1 import inference_pb2
from tests.support.fake_worker import FakeWorker, Script
from tests.support.http_client import post_json
from tests.support.processes import LeptonProcess, until
from tests.support.router_process import cluster
from tests.support.small_cluster import GENERATE, ask

REQUEST = inference_pb2.GenerateRequest(model="tiny", text="x")
CONNECTIONS = 24
"""So many that the kernel gives each of two processes some, but for one time in millions."""


def children_of(pid: int) -> list[int]:
    """Of every thread, as asyncio may start them from any."""
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text("utf-8").split()
    ]


async def page(router: LeptonProcess, path: str) -> str:
    address = router.ready["metrics_address"]
    return await asyncio.to_thread(lambda: urlopen(f"http://{address}{path}").read().decode())


async def samples(router: LeptonProcess, name: str) -> dict[str, float]:
    """Process → value."""
    found = re.findall(
        rf'^{name}{{(?:.*,)?process="(\d)".*}} (\S+)$', await page(router, "/metrics"), re.M
    )
    return {process: float(value) for process, value in found}


@asynccontextmanager
async def connections(address: str) -> AsyncIterator[list[grpc.aio.Channel]]:
    """Each with a TCP connection of its own."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(
                    address, options=[("grpc.use_local_subchannel_pool", 1), ("n", number)]
                )
            )
            for number in range(CONNECTIONS)
        ]


def hanging(channel: grpc.aio.Channel) -> Any:
    return channel.unary_stream(GENERATE)(REQUEST.SerializeToString(), timeout=60)


async def test_processes_share_the_port_and_the_loss_of_one(tmp_path: Path) -> None:
    """Only the streams of the process that dies end; it comes back, and new calls find both."""
    worker = FakeWorker(script=Script(messages=1, hang=True))
    worker.report(rows_max=4 * CONNECTIONS)
    flags = {"processes": 2, "id": "r", "restart_s_min": 0.05}
    async with cluster(tmp_path, worker, **flags) as (router, _):
        pids = children_of(router.pid)
        assert len(pids) == 2
        async with connections(router.address) as channels:
            calls = [hanging(channel) for channel in channels]
            for call in calls:
                await call.read()
            in_flight = await samples(router, "lepton_requests_in_flight")
            assert set(in_flight) == {"0", "1"}
            assert sum(in_flight.values()) == CONNECTIONS
            assert all(in_flight.values()), in_flight
            assert {seen.metadata["lepton-router-id"] for seen in worker.calls} == {"r-0", "r-1"}

            os.kill(pids[0], signal.SIGKILL)
            restarts: dict[str, float] = {}

            async def both_serve_again() -> bool:
                restarts.update(await samples(router, "lepton_router_process_restarts_total"))
                there = await samples(router, "lepton_requests_in_flight")
                return sum(restarts.values()) == 1 and len(there) == 2

            await until(both_serve_again, what="both serve again")
            (killed,) = (process for process, times in restarts.items() if times)
            await until(
                lambda: sum(call.done() for call in calls) == in_flight[killed],
                what="the streams of that process end",
            )
            lost = [call for call in calls if call.done()]
            assert {await call.code() for call in lost} == {grpc.StatusCode.UNAVAILABLE}
            worker.script = Script(messages=2)
            async with connections(router.address) as fresh:
                answers = [await ask(channel, REQUEST) for channel in fresh]
            assert [answer.error for answer in answers] == [None] * CONNECTIONS
            assert [call for call in calls if call.done()] == lost
            for call in calls:
                call.cancel()
            assert '"ready": true' in await page(router, "/readyz")

        port = router.address.rpartition(":")[2]
        stranger = LeptonProcess(
            "router", {"port": port, "metrics_port": 0, "discovery.registry_dir": tmp_path}
        )
        await stranger.start(wait=False)
        assert await stranger.wait() == 2
        assert any("PORT_IN_USE" in line for line in stranger.lines)


async def test_sigterm_drains_every_process(tmp_path: Path) -> None:
    """Also when it comes to the children themselves first, as from a service manager."""
    gate = asyncio.Event()
    worker = FakeWorker(script=Script(gate=gate))
    worker.report(rows_max=4 * CONNECTIONS)
    async with cluster(tmp_path, worker, processes=2) as (router, _):
        async with connections(router.address) as channels, asyncio.TaskGroup() as group:
            asking = [group.create_task(ask(channel, REQUEST)) for channel in channels]
            await until(lambda: len(worker.calls) == CONNECTIONS, what="all run")
            for pid in children_of(router.pid):
                os.kill(pid, signal.SIGTERM)
            router.terminate()
            await until(
                lambda: sum("router.draining" in line for line in router.lines) == 2,
                what="both drain",
            )
            gate.set()
        assert [task.result().error for task in asking] == [None] * CONNECTIONS
        assert await router.wait() == 0


async def test_children_do_not_outlive_their_parent(tmp_path: Path) -> None:
    async with cluster(tmp_path, FakeWorker(), processes=2) as (router, _):
        pids = children_of(router.pid)
        router.kill()
        await router.wait()

        def gone() -> bool:
            return not any(Path(f"/proc/{pid}/exe").exists() for pid in pids)

        await until(gone, what="the children end")


async def test_children_that_refuse_to_start_end_the_parent(tmp_path: Path) -> None:
    """What is wrong is said by a child, and not tried again."""
    router = LeptonProcess(
        "router",
        {"port": 0, "metrics_port": 0, "processes": 2},  # and no registry
    )
    await router.start(wait=False)
    assert await router.wait() == 2
    assert any("without a registry" in line for line in router.lines)
    assert router.lines[-1].startswith("error: router process")


async def test_processes_share_the_http_port_too(tmp_path: Path) -> None:
    async with cluster(tmp_path, FakeWorker(), processes=2, id="r") as (router, _):
        url = f"http://{router.http_address}"
        for _ in range(CONNECTIONS):
            answer = await post_json(url, "/v1/completions", b'{"prompt":"x","stream":true}')
            assert answer.status == 200
        answered = await samples(router, "lepton_http_requests_total")
        assert set(answered) == {"0", "1"}
        assert sum(answered.values()) == CONNECTIONS
