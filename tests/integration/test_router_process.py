"""`lepton-router` as a process: start, refusals to start, signals, exit codes."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from agent.ports import free_port
from common.errors import Reason
from lepton.v1 import inference_pb2
from tests.support.fake_worker import FakeWorker, Script
from tests.support.processes import LeptonProcess
from tests.support.router_process import cluster
from tests.support.small_cluster import GENERATE, ask, until

REQUEST = inference_pb2.GenerateRequest(model="tiny", text="x")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_drains_and_ends_with_0(tmp_path: Path, number: signal.Signals) -> None:
    gate = asyncio.Event()
    worker = FakeWorker("w1", script=Script(gate=gate))
    async with cluster(tmp_path, worker) as (router, channel), asyncio.TaskGroup() as group:
        assert router.ready["router_id"].startswith("router-")
        running = group.create_task(ask(channel, REQUEST))
        await until(lambda: len(worker.calls) == 1)
        assert router.process is not None
        router.process.send_signal(number)
        await until(lambda: any("router.draining" in line for line in router.lines))
        health: Any = health_pb2_grpc.HealthStub(channel)
        state = await health.Check(health_pb2.HealthCheckRequest())
        assert state.status == health_pb2.HealthCheckResponse.NOT_SERVING
        refused = await ask(channel, REQUEST)
        assert refused.error is not None
        assert refused.error.reason is Reason.DRAINING
        gate.set()
        assert (await running).error is None
        assert await router.wait() == 0


async def test_second_signal_cuts_the_drain_short(tmp_path: Path) -> None:
    worker = FakeWorker("w1", script=Script(messages=1, hang=True))
    async with cluster(tmp_path, worker, drain_s_max=600) as (router, channel):
        call: Any = channel.unary_stream(GENERATE)(REQUEST.SerializeToString())
        await call.read()
        router.terminate()
        await until(lambda: any("router.draining" in line for line in router.lines))
        router.terminate()
        assert await router.wait() == 1
        call.cancel()


async def test_router_that_is_killed_serves_again_after_its_restart(tmp_path: Path) -> None:
    worker = FakeWorker("w1")
    async with cluster(tmp_path, worker, port=free_port()) as (router, channel):
        assert (await ask(channel, REQUEST)).error is None
        router.kill()
        assert await router.wait() == -signal.SIGKILL
        await router.start()
        async with grpc.aio.insecure_channel(router.address) as fresh:
            assert (await ask(fresh, REQUEST)).error is None


@pytest.mark.parametrize(
    ("flags", "tells"),
    [
        ({"discovery.registry_dir": None}, "(SETTING_INVALID)"),
        ({"prot": 1}, "unknown setting router.prot"),
        ({"port": "many"}, "router.port"),
        ({"policy": "psychic"}, "power_of_two"),
        ({"host": "0.0.0.0"}, "(BIND_NOT_ALLOWED)"),
        ({"metrics_host": "0.0.0.0"}, "(BIND_NOT_ALLOWED)"),
        ({"config": "/does/not/exist"}, "cannot read the settings file"),
    ],
)
async def test_wrong_start_is_refused_in_one_line_with_2(
    tmp_path: Path, flags: dict[str, object], tells: str
) -> None:
    merged = {"port": 0, "metrics_port": 0, "discovery.registry_dir": tmp_path} | flags
    router = LeptonProcess("router", {k: v for k, v in merged.items() if v is not None})
    await router.start(wait=False)
    assert await router.wait() == 2
    errors = [line for line in router.lines if line.startswith("error: ")]
    assert len(errors) == 1
    assert tells in errors[0]
    assert "Traceback" not in "\n".join(router.lines)


async def test_port_in_use_is_refused_and_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        router = LeptonProcess(
            "router", {"port": port, "metrics_port": 0, "discovery.registry_dir": tmp_path}
        )
        await router.start(wait=False)
        assert await router.wait() == 2
    assert f"127.0.0.1:{port}" in "\n".join(router.lines)
    assert "(PORT_IN_USE)" in "\n".join(router.lines)
