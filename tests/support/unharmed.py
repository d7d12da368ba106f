"""The universal checks: whatever was sent, the process is what it was before, and nobody else noticed.

    async with unharmed(cluster) as watch:
        … anything …
        await watch.check()        # as often as one likes; once more at the end

U2  the event loop never stood still; U3 a canary's tokens are right, also of one that ran beside it; U4 tasks, files,
rows and calls are back to what they were, memory roughly; U6 every line of the log is one line of JSON without a
control character, a stack or a secret.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import io
import json
import logging
import os
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Final, final

from common.logs import JsonFormatter
from lepton.v1 import inference_pb2, types_pb2
from tests.support.demo_cluster import SECRET, DemoCluster
from tests.support.patience import PATIENCE_S
from tests.support.processes import until
from tests.support.tiny_models import GOLDENS
from tests.support.worker import GENERATE

__all__ = ["Watch", "unharmed"]

GAP_S_MAX: Final = 2.0
"""Longest that the loop may stand still while this process computes. Generous, and what a busy machine takes away is
not counted."""
TICK_S: Final = 0.01
RSS_MIB_MAX: Final = 128
"""Most that memory may grow, caches included; a leak of what bodies hold is far more."""
FILES_MORE_MAX: Final = 12
"""Files that may be open at the end and were not at the beginning: pooled connections, the process of a trial."""
_NEIGHBOUR_TOKENS: Final = 400


@cache
def _canary() -> tuple[str, str]:
    """What is asked and what comes out, as transformers has it."""
    cases = json.loads((GOLDENS / "demo.json").read_text("utf-8"))["cases"]
    case = next(case for case in cases if "12 + 34" in case["messages"][0]["content"])
    return case["messages"][0]["content"], case["text"]


def _question(text: str, **stop: object) -> inference_pb2.GenerateRequest:
    request = inference_pb2.GenerateRequest(stop=stop)
    request.chat.messages.add(role=types_pb2.ROLE_USER, content=text)
    return request


@final
class Watch:
    """See the module."""

    def __init__(self, cluster: DemoCluster, log: io.StringIO) -> None:
        self._cluster = cluster
        self._log = log
        self.largest_gap_s = 0.0
        """Since the beginning, seconds."""
        self.neighbour = ""
        """What a stream says that runs all the time."""

    def __repr__(self) -> str:
        return f"now {self.shape()}, {sorted(map(repr, asyncio.all_tasks()))}"

    async def tick(self) -> None:
        loop = asyncio.get_running_loop()
        before, computed_before = loop.time(), time.process_time()
        while True:
            await asyncio.sleep(TICK_S)  # noqa: TID251 - it measures real time
            now, computed = loop.time(), time.process_time()
            gap_s = min(now - before - TICK_S, computed - computed_before)
            self.largest_gap_s = max(self.largest_gap_s, gap_s)
            before, computed_before = now, computed

    async def ask(self, request: inference_pb2.GenerateRequest) -> str:
        """The text of a whole answer."""
        call = self._cluster.channel.unary_stream(GENERATE)(
            request.SerializeToString(), timeout=PATIENCE_S
        )
        texts = []
        async for data in call:
            for event in inference_pb2.GenerateResponse.FromString(data).events:
                texts.append(event.delta.text)  # noqa: PERF401 - an `await` stands between
        return "".join(texts)

    async def neighbour_text(self) -> str:
        """A long answer, drawn with a seed; it shares the batch with whatever is sent meanwhile."""
        request = _question("What is Lepton?", max_tokens=_NEIGHBOUR_TOKENS, ignore_eos=True)
        request.sampling.temperature, request.sampling.seed = 0.9, 11
        return await self.ask(request)

    async def check(self) -> None:
        """The canary sings, the loop ran, the log is clean."""
        question, answer = _canary()
        assert await self.ask(_question(question, max_tokens=32)) == answer
        assert self.largest_gap_s < GAP_S_MAX, (
            f"the loop stood still for {self.largest_gap_s:.2f} s"
        )
        self._check_log()

    def _check_log(self) -> None:
        for line in self._log.getvalue().split("\n")[:-1]:
            assert line.isprintable(), line
            told = json.loads(line)
            assert "exception" not in told, told
            assert told["level"] in {"info", "warning"}, told
            assert SECRET not in line

    def shape(self) -> tuple[int, int, int, int]:
        """Tasks, open files, rows of the KV cache in use and waiting, calls."""
        load = self._cluster.worker.running.engine.load()
        return (
            len(asyncio.all_tasks()),
            len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - a count
            load.running + load.waiting,
            self._cluster.worker.running.in_flight.num_calls,
        )


@asynccontextmanager
async def unharmed(cluster: DemoCluster, *, has_neighbour: bool = True) -> AsyncIterator[Watch]:
    """Checks at the end that everything is as it was at the beginning."""
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(JsonFormatter(service="test", instance_id="test"))
    root, level = logging.getLogger(), logging.getLogger("gateway").level
    for name in ("gateway", "router", "worker", "common"):
        logging.getLogger(name).setLevel(logging.INFO)
    root.addHandler(handler)
    watch = Watch(cluster, log)
    try:
        alone = await watch.neighbour_text() if has_neighbour else ""
        await watch.check()
        before, memory = watch.shape(), _rss_mib()
        async with asyncio.TaskGroup() as group:
            ticking = group.create_task(watch.tick())
            beside = group.create_task(watch.neighbour_text()) if has_neighbour else None
            try:
                yield watch
                if beside is not None:
                    assert await beside == alone, "a neighbour's tokens changed"
                await watch.check()
            finally:
                ticking.cancel()
        most = [was + more for was, more in zip(before, (0, FILES_MORE_MAX, 0, 0), strict=True)]
        await until(
            lambda: all(now <= top for now, top in zip(watch.shape(), most, strict=True)),
            what=f"tasks, files, rows and calls at most {most}: {watch!r}",
        )
        assert _rss_mib() - memory < RSS_MIB_MAX
    finally:
        root.removeHandler(handler)
        for name in ("gateway", "router", "worker", "common"):
            logging.getLogger(name).setLevel(level)


def _rss_mib() -> float:
    """What is in use: the allocator gives back what it keeps for later."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() / 2**20
