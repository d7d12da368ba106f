"""`lepton top` and `lepton run-batch` on a real cluster that loses workers, dies and comes back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.lepton_up import lepton_up, start_lepton
from tests.support.patience import PATIENCE_S

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]

SUM = "27 + 35 = 62"


class Watcher:
    """A `lepton top --json` that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first picture for which it holds."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while line := await self._process.stdout.readline():
                picture: dict[str, Any] = json.loads(line)
                if holds(picture):
                    return picture
        raise AssertionError("lepton top ended")

    async def interrupt(self) -> int:
        self._process.send_signal(signal.SIGINT)
        return await asyncio.wait_for(self._process.wait(), PATIENCE_S)


def _states(picture: dict[str, Any]) -> list[str]:
    return [worker["state"] for worker in picture.get("workers", ())]


async def test_top_and_a_batch_see_a_cluster_through_its_troubles(tmp_path: Path) -> None:
    state, source, output = tmp_path / "state", tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    messages = [{"role": "user", "content": "What is 27 + 35?"}]
    body = {"messages": messages, "max_tokens": 24}
    with source.open("w") as file:
        for number in range(300):
            row = {"custom_id": f"q{number}", "url": "/v1/chat/completions", "body": body}
            file.write(json.dumps(row) + "\n")
    process: asyncio.subprocess.Process | None = None
    try:
        async with lepton_up(state, "--http-port=0", "--workers=2") as up:
            await up.until_ready()
            process = await start_lepton("top", "--json", "--interval", "0.1", state=state)
            watcher = Watcher(process)
            picture = await watcher.until(lambda picture: _states(picture) == ["ready"] * 2)
            assert {worker["pid"] for worker in picture["workers"]} == {up.pid("w1"), up.pid("w2")}
            batch = asyncio.ensure_future(
                up.run("run-batch", f"-i{source}", f"-o{output}", "--ordered", "--json")
            )
            await watcher.until(lambda picture: picture.get("running", 0) > 0)
            os.kill(up.pid("w1"), signal.SIGKILL)
            await watcher.until(lambda picture: _states(picture).count("ready") == 1)
            done = await batch
            assert done.code == 0, f"{done.stdout}\n{done.stderr}"
            assert done.json["succeeded"] == 300
            await watcher.until(
                lambda picture: (
                    _states(picture).count("ready") == 2 and picture["router"]["in_flight"] == 0
                )
            )
            once = await up.run("top", "--once")
            assert once.code == 0
            assert "workers serve" in once.stdout
            assert await up.interrupt() == 0
        await watcher.until(lambda picture: "error" in picture)

        async with lepton_up(state, "--http-port=0", "--workers=1") as up:  # on other ports
            await up.until_ready()
            await watcher.until(lambda picture: _states(picture) == ["ready"])
            assert await up.interrupt() == 0
        assert await watcher.interrupt() == 130
    finally:
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["custom_id"] for row in rows] == [f"q{number}" for number in range(300)]
    answers = {row["response"]["body"]["choices"][0]["message"]["content"] for row in rows}
    assert answers == {SUM}
