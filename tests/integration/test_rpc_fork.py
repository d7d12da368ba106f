"""gRPC keeps its hands off the children of a process that serves: their programs begin, all of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

HOOK = "fork_posix.cc"
"""Where gRPC's hook says that it was called; in one of some hundred times it does more, and the child dies of it."""
STARTS = """
import asyncio
import grpc
import uvloop

async def main():
    server = grpc.aio.server()
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
        for _ in range(20):
            process = await asyncio.create_subprocess_exec("/bin/true")
            assert await process.wait() == 0, process.returncode
    await server.stop(None)

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    env = {"GRPC_VERBOSITY": "info", "GRPC_ENABLE_FORK_SUPPORT": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )


def test_children_begin_without_the_hook_and_it_is_there_by_default() -> None:
    ours = run(f"import common\n{STARTS}")
    assert (ours.returncode, HOOK in ours.stderr) == (0, False), ours.stderr
    assert HOOK in run(STARTS).stderr, "the negative control"


@pytest.mark.parametrize(
    "entry", ["worker.__main__", "router.__main__", "gateway.__main__", "loadtest.soak.worker"]
)
def test_every_process_imports_common_before_grpc(entry: str) -> None:
    done = run(f"import {entry}, sys; print(*sys.modules)")
    loaded = done.stdout.split()
    assert loaded.index("common") < loaded.index("grpc"), done.stderr
