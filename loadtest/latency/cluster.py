"""What router and gRPC cost: the same streams through a cluster on this machine and on the engine alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

from agent.state import StateDir
from loadtest.engines.api import Facts, random_prompts
from loadtest.engines.lepton import opened
from loadtest.latency.cpu import cpu_s, rss_bytes
from loadtest.latency.row import Row
from loadtest.spawn import own_cluster

__all__ = ["cluster_rows"]

STREAMS, PROMPT, TOKENS = 16, 64, 256
ROUNDS: Final = 3
"""Requests of each stream, one after the other."""
FIRST_TOKENS: Final = 20
"""Requests whose time to the first token is measured."""
MIB: Final = 1 << 20
ROOM_MIB: Final = 150
"""What a process may take beside weights and keys and values: interpreter, libraries, buffers."""
VOCAB_SIZE: Final = 300
"""Prompts of the engine use ids below it, which every model has."""


def cluster_rows(folder: Path, *, mode: str, threads: int, context_max: int) -> Iterator[Row]:
    """The engine first, then the cluster; both with `threads` threads and the same lengths."""
    context = min(context_max, 1024)
    rate, ttft_s, facts = _engine_alone(folder, mode, threads, context)
    settings = {
        "LEPTON_WORKER_MODE": mode,
        "LEPTON_WORKER_CONTEXT_MAX": str(context),
        "LEPTON_WORKER_PREFIX_CACHE_MIB": "0",
    }
    with _environment(settings):
        found = asyncio.run(_through_cluster(folder))
    tokens, wall = found["tokens"], found["wall_s"]
    cluster_rate = tokens / wall
    cores = len(os.sched_getaffinity(0))
    # Without the client's own work the same would have taken that much less of the machine.
    given_back = tokens / (wall - found["cpu"]["client"] / cores)
    yield Row(
        what=f"throughput at {STREAMS} streams through router and gRPC, the client's CPU added back, over the engine's "
        "own",
        value=given_back / rate,
        at_least=0.9,
        how=f"{given_back:.0f} (as measured {cluster_rate:.0f}) over {rate:.0f} tokens/s",
    )
    for name, seconds in found["cpu"].items():
        yield Row(what=f"CPU per token, {name}", value=1e6 * seconds / tokens, unit="µs")
    yield Row(
        what="time to first token of one stream, above the engine's own",
        value=found["ttft_ms"] - 1e3 * ttft_s,
        unit="ms",
        at_most=3.0,
        how=f"{found['ttft_ms']:.2f} over {1e3 * ttft_s:.2f} ms, {PROMPT} tokens",
    )
    yield _memory(found["rss"], facts)


def _memory(rss: int, facts: Facts) -> Row:
    """Of the worker, when the last of the streams has ended: its rows have been used, but are far from full."""
    weights = facts.weights_bytes or 0
    used = STREAMS * (PROMPT + TOKENS) * (facts.kv_bytes_per_token or 0)
    allowed = 1.3 * weights + used + ROOM_MIB * MIB
    return Row(
        what=f"resident memory of the worker after {STREAMS} streams of {PROMPT + TOKENS} tokens, over 1.3 × weights + "
        f"their keys and values + {ROOM_MIB} MiB",
        value=rss / allowed,
        unit="×",
        at_most=1.0,
        how=f"{rss / MIB:,.0f} MiB; weights {weights / MIB:,.0f}, keys and values {used / MIB:,.0f}",
    )


def _engine_alone(
    folder: Path, mode: str, threads: int, context: int
) -> tuple[float, float, Facts]:
    """Tokens per second of the same closed loop, seconds to the first token of one stream (median), its facts."""
    with opened(folder, mode, threads=threads, rows_max=STREAMS, context_max=context) as engine:
        prompts = iter(random_prompts(STREAMS * ROUNDS, PROMPT, vocab_size=VOCAB_SIZE, seed=1))

        async def caller() -> None:
            for prompt in prompts:
                await engine.submit(prompt, TOKENS)

        async def closed_loop() -> None:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(STREAMS):
                    tasks.create_task(caller())

        singles = random_prompts(FIRST_TOKENS, PROMPT, vocab_size=VOCAB_SIZE, seed=2)
        ttft_s = median(engine.prefill(prompt) for prompt in singles)
        began = time.perf_counter()
        engine.run(closed_loop())
        rate = STREAMS * ROUNDS * TOKENS / (time.perf_counter() - began)
        return rate, ttft_s, engine.facts


async def _through_cluster(folder: Path) -> dict[str, Any]:
    """Tokens, seconds and CPU seconds per process at `STREAMS` streams, and the TTFT of one stream."""
    with TemporaryDirectory(prefix="lepton-latency-") as state_folder:
        state = Path(state_folder)
        async with own_cluster(state, models=[f"m={folder}"], workers=1) as address:
            cluster = StateDir(state).read()
            if cluster is None:
                raise RuntimeError("the cluster left no state file")
            pids = {one.name: one.pid for one in cluster.processes if one.pid is not None}
            names = {"router": pids["router"], "worker": pids["w1"]}
            await _bench(address, streams=STREAMS, requests=STREAMS, tokens=TOKENS // 4)  # warms up
            one = await _bench(address, streams=1, requests=FIRST_TOKENS, tokens=2)
            before = {name: cpu_s(pid) for name, pid in names.items()}
            many = await _bench(address, streams=STREAMS, requests=STREAMS * ROUNDS, tokens=TOKENS)
            used = {name: cpu_s(pid) - before[name] for name, pid in names.items()}
            rss = rss_bytes(names["worker"])
    report = many["reports"][0]
    if report["failed"] or one["reports"][0]["failed"]:
        raise RuntimeError(f"requests failed: {report['errors'] or one['reports'][0]['errors']}")
    return {
        "tokens": report["completion_tokens"],
        "wall_s": report["duration_s"],
        "cpu": {**used, "client": report["client_cpu_s"]},
        "ttft_ms": one["reports"][0]["ttft_ms"]["median"],
        "rss": rss,
    }


async def _bench(address: str, *, streams: int, requests: int, tokens: int) -> dict[str, Any]:
    """`lepton bench` in a process of its own."""
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "bench", "--url", address, "--json"),
        *("--concurrency", str(streams), "--requests", str(requests), "--warmup", "0"),
        *("--prompt-tokens", str(PROMPT), "--output-tokens", str(tokens)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await client.communicate()
    return dict(json.loads(out))


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """For processes that start in the block: settings that `lepton up` has no flag for."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
