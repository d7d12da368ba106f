"""What router and gRPC cost: the same streams through a cluster on this machine and on the engine alone, in turns."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

from agent.state import StateDir
from loadtest.engines.api import Facts, random_prompts
from loadtest.engines.lepton import LeptonEngine, opened
from loadtest.latency.cpu import cpu_s, rss_bytes
from loadtest.latency.row import Row
from loadtest.spawn import own_cluster

__all__ = ["cluster_rows"]

STREAMS, PROMPT, TOKENS = 16, 64, 192
ROUNDS: Final = 4
"""In each the engine goes first, then the cluster; ratios are taken within a round."""
FIRST_TOKENS: Final = 10
"""Requests of each round whose time to the first token is measured, one at a time."""
MIB: Final = 1 << 20
ROOM_MIB: Final = 150
"""What a process may take beside weights and keys and values: interpreter, libraries, buffers."""
VOCAB_SIZE: Final = 300
"""Prompts of the engine use ids below it, which every model has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """Rates in tokens per second, times in seconds."""

    engine_rate: float
    engine_ttft_s: float
    cluster_rate: float
    cluster_ttft_s: float
    cpu_s: dict[str, float]
    """Router, worker and client, while the cluster's rate was measured."""

    @property
    def given_back_rate(self) -> float:
        """The cluster's, had the client's work not taken its part of the machine."""
        cores = len(os.sched_getaffinity(0))
        took_s = STREAMS * TOKENS / self.cluster_rate
        return STREAMS * TOKENS / (took_s - self.cpu_s["client"] / cores)


def cluster_rows(folder: Path, *, mode: str, threads: int, context_max: int) -> Iterator[Row]:
    """Both with `threads` threads (all that the machine has: a worker takes them) and the same lengths."""
    context = min(context_max, 1024)
    settings = {
        "LEPTON_WORKER_MODE": mode,
        "LEPTON_WORKER_CONTEXT_MAX": str(context),
        "LEPTON_WORKER_PREFIX_CACHE_MIB": "0",
    }
    options = {"threads": threads, "rows_max": STREAMS, "context_max": context}
    with _environment(settings), opened(folder, mode, **options) as engine:
        rounds, rss = asyncio.run(_measure(folder, engine))
        facts = engine.facts
    ratios = [one.given_back_rate / one.engine_rate for one in rounds]
    yield Row(
        what=f"throughput at {STREAMS} streams through router and gRPC, the client's CPU added back, over the engine's "
        "own",
        value=median(ratios),
        at_least=0.9,
        how=f"{min(ratios):.2f}–{max(ratios):.2f}; {median(o.given_back_rate for o in rounds):.0f} (as measured "
        f"{median(o.cluster_rate for o in rounds):.0f}) over {median(o.engine_rate for o in rounds):.0f} tokens/s",
    )
    for name in rounds[0].cpu_s:
        used = sum(one.cpu_s[name] for one in rounds)
        yield Row(
            what=f"CPU per token, {name}", value=1e6 * used / (ROUNDS * STREAMS * TOKENS), unit="µs"
        )
    above = [1e3 * (one.cluster_ttft_s - one.engine_ttft_s) for one in rounds]
    yield Row(
        what="time to first token of one stream, above the engine's own",
        value=median(above),
        unit="ms",
        at_most=3.0,
        how=f"{min(above):.1f}–{max(above):.1f}; {1e3 * median(o.cluster_ttft_s for o in rounds):.1f} over "
        f"{1e3 * median(o.engine_ttft_s for o in rounds):.1f} ms, {PROMPT} tokens",
    )
    yield _memory(rss, facts)


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


async def _measure(folder: Path, engine: LeptonEngine) -> tuple[list[_Round], int]:
    """All rounds, and the worker's resident memory at the end, bytes."""
    with TemporaryDirectory(prefix="lepton-latency-") as state_folder:
        state = Path(state_folder)
        async with own_cluster(state, models=[f"m={folder}"], workers=1) as address:
            cluster = StateDir(state).read()
            if cluster is None:
                raise RuntimeError("the cluster left no state file")
            pid_of = {one.name: one.pid for one in cluster.processes if one.pid is not None}
            pids = {"router": pid_of["router"], "worker": pid_of["w1"]}
            await _bench(address, streams=STREAMS, requests=STREAMS, tokens=TOKENS // 4)  # warms up
            rounds = [await _round(number, address, pids, engine) for number in range(ROUNDS)]
            return rounds, rss_bytes(pids["worker"])


async def _round(number: int, address: str, pids: dict[str, int], engine: LeptonEngine) -> _Round:
    # The engine has an event loop of its own; while it works, ours rests.
    engine_rate, engine_ttft_s = await asyncio.to_thread(_engine_alone, engine, number)
    one = await _bench(address, streams=1, requests=FIRST_TOKENS, tokens=2)
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    many = await _bench(address, streams=STREAMS, requests=STREAMS, tokens=TOKENS)
    used = {name: cpu_s(pid) - before[name] for name, pid in pids.items()}
    return _Round(
        engine_rate=engine_rate,
        engine_ttft_s=engine_ttft_s,
        cluster_rate=many["tokens_per_s"],
        cluster_ttft_s=one["ttft_ms"]["median"] / 1e3,
        cpu_s={**used, "client": many["client_cpu_s"]},
    )


def _engine_alone(engine: LeptonEngine, number: int) -> tuple[float, float]:
    """Tokens per second of all streams from handing them over to the last token; seconds to the first of one."""
    singles = random_prompts(FIRST_TOKENS, PROMPT, vocab_size=VOCAB_SIZE, seed=number)
    ttft_s = median(engine.prefill(prompt) for prompt in singles)
    prompts = random_prompts(STREAMS, PROMPT, vocab_size=VOCAB_SIZE, seed=number)
    began = time.perf_counter()
    engine.complete(prompts, TOKENS)
    return STREAMS * TOKENS / (time.perf_counter() - began), ttft_s


async def _bench(address: str, *, streams: int, requests: int, tokens: int) -> dict[str, Any]:
    """The report of `lepton bench` in a process of its own. Raises RuntimeError when a request failed."""
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "bench", "--url", address, "--json"),
        *("--concurrency", str(streams), "--requests", str(requests), "--warmup", "0"),
        *("--prompt-tokens", str(PROMPT), "--output-tokens", str(tokens)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await client.communicate()
    answer = json.loads(out)
    if "error" in answer or client.returncode:
        raise RuntimeError(
            f"the load failed: {answer.get('error') or answer['reports'][0]['errors']}"
        )
    return dict(answer["reports"][0])


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
