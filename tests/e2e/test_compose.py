"""The command lines and environments of the compose file start a working cluster as plain processes.

No container engine is needed: host names become loopback ports, paths inside the images become the
checkout's, and everything else stays as the compose file says.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from agent.ports import free_port
from tests.support.etcd import EtcdServer
from tests.support.otlp import OtlpSink
from tests.support.processes import DEMO_MODEL, LOCAL, ROOT, LeptonProcess, ask, until, user

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]

COMPOSE = ROOT / "deploy" / "compose" / "compose.yaml"
IMAGE_MODEL = "/opt/lepton/share/lepton/models/demo"


def _resolve(text: str, hosts: dict[str, str]) -> str:
    """Variables with their defaults, service names and image paths as this machine has them."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    text = text.replace(IMAGE_MODEL, str(DEMO_MODEL)).replace("0.0.0.0", LOCAL)
    for name, address in hosts.items():
        text = re.sub(rf"\b{re.escape(name)}(?![\w/])", address, text)
    return text


def _process(
    name: str, service: dict[str, Any], hosts: dict[str, str], ports: dict[str, int]
) -> LeptonProcess:
    env = {key: _resolve(str(value), hosts) for key, value in service["environment"].items()}
    module = "router" if service["build"]["target"] == "router" else "worker"
    env[f"LEPTON_{module.upper()}_PORT"] = str(ports[name])
    env[f"LEPTON_{module.upper()}_METRICS_PORT"] = "0"
    if module == "router":
        env["LEPTON_GATEWAY_PORT"] = "0"
    command = [_resolve(part, hosts) for part in service.get("command", [])]
    flags = {
        flag.removeprefix("--"): value
        for flag, value in zip(command[::2], command[1::2], strict=True)
    }
    return LeptonProcess(module, flags, env=env)


async def test_compose_processes_make_a_cluster(tmp_path: Path) -> None:
    services = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]
    etcd = EtcdServer(tmp_path / "etcd")
    etcd.start()
    processes: list[LeptonProcess] = []
    async with OtlpSink() as sink:
        ports = {name: free_port() for name in ("router", "worker-1", "worker-2")}
        hosts = {
            "etcd:2379": etcd.endpoint,
            "otel-collector:4317": sink.address,
            "worker-1:50061": f"{LOCAL}:{ports['worker-1']}",
            "worker-2:50061": f"{LOCAL}:{ports['worker-2']}",
        }
        try:
            for name in ("worker-1", "worker-2", "router"):
                processes.append(_process(name, services[name], hosts, ports))
                await processes[-1].start()
            async with grpc.aio.insecure_channel(f"{LOCAL}:{ports['router']}") as channel:

                async def both_answer() -> bool:
                    answers = await asyncio.gather(
                        *(ask(channel, user("What is 12 + 34?")) for _ in range(8))
                    )
                    return {a.worker_id for a in answers if a.whole} == {"worker-1", "worker-2"}

                await until(both_answer, what="both workers answer through the router")
            await sink.wait_for(
                lambda spans: {s.service for s in spans} >= {"lepton-router", "lepton-worker"},
            )
        finally:
            for process in reversed(processes):
                await process.stop()
            etcd.stop()
