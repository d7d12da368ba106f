"""What the engine does to its users without any network: a long prompt among streams, a known beginning."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cli.bench.spread import percentile
from loadtest.engines.api import random_prompts
from loadtest.engines.lepton import LeptonEngine, opened
from loadtest.latency.row import Row

__all__ = ["engine_rows"]

VOCAB_SIZE: Final = 300
"""Prompts use ids below it, which every model has."""
STREAMS: Final = 8
STREAM_TOKENS: Final = 0.4
"""Per token of the long prompt: enough that all of them still decode when it has been computed."""
LONG: Final = 4000
SHARED, NEW = 1000, 32
TRIES: Final = 5


def engine_rows(folder: Path, *, mode: str, threads: int, context_max: int) -> Iterator[Row]:
    """Measures one after the other; `context_max` bounds the long prompt, too."""
    long = min(LONG, context_max - 64)
    with opened(
        folder, mode, threads=threads, rows_max=STREAMS + 1, context_max=context_max
    ) as engine:
        yield _long_prompt(engine, long)
    shared = min(SHARED, context_max // 2)
    with opened(
        folder, mode, threads=threads, rows_max=2, context_max=context_max, prefix_cache_mib=256
    ) as engine:
        yield _second_turn(engine, shared)


def _long_prompt(engine: LeptonEngine, tokens: int) -> Row:
    """Alternating, so that a drift of the machine touches both alike; the try with the median ratio counts.

    Without the prompt each stream decodes as many tokens as beside it: its own length costs time, too, and is not the
    prompt's doing.
    """
    tries: list[tuple[float, float, float, int]] = []
    (long,) = random_prompts(1, tokens, vocab_size=VOCAB_SIZE, seed=9)
    for number in range(TRIES):
        beside_ms, decoded = _gaps_beside(engine, long, seed=number)
        alone_ms = _gaps_alone(engine, decoded, seed=number)
        tries.append((beside_ms / alone_ms, beside_ms, alone_ms, decoded))
    tries.sort()
    ratio, beside_ms, alone_ms, decoded = tries[len(tries) // 2]
    return Row(
        what=f"p99 ITL of {STREAMS} streams while one prompt of {tokens:,} tokens arrives, over the same without it",
        value=ratio,
        unit="×",
        at_most=2.0,
        how=f"{tries[0][0]:.2f}–{tries[-1][0]:.2f}; {beside_ms:.1f} ms over {alone_ms:.1f} ms; "
        f"{decoded} tokens of each stream",
    )


def _gaps_alone(engine: LeptonEngine, num_tokens: int, *, seed: int) -> float:
    """p99 of the gaps between the tokens of `STREAMS` streams of so many tokens, milliseconds."""
    times = engine.complete(_prompts(seed), num_tokens)
    return _p99_ms(times, begin=max(stream[0] for stream in times))


def _gaps_beside(engine: LeptonEngine, long: list[int], *, seed: int) -> tuple[float, int]:
    """The same beside a long prompt, and how many tokens a stream had when that was done.

    Only gaps that end while it is computed count: others would hide it.
    """
    prompts = _prompts(seed)

    async def all_of_them() -> tuple[list[list[float]], float, float]:
        num_tokens = int(STREAM_TOKENS * len(long))
        streams = [asyncio.ensure_future(engine.submit(prompt, num_tokens)) for prompt in prompts]
        await engine.submit(prompts[0][:8], 24)  # by then all of them decode
        arrived = asyncio.get_running_loop().time()
        (first_token, *_) = await engine.submit(long, 1)
        return list(await asyncio.gather(*streams)), arrived, first_token

    times, arrived, end = engine.run(all_of_them())
    if min(stream[-1] for stream in times) < end:
        raise RuntimeError(
            "a stream had ended before the long prompt was computed; give them more tokens"
        )
    begin = max(arrived, *(stream[0] for stream in times))
    decoded = max(sum(at <= end for at in stream) for stream in times)
    return _p99_ms(times, begin=begin, end=end), decoded


def _prompts(seed: int) -> list[list[int]]:
    return random_prompts(STREAMS, 32, vocab_size=VOCAB_SIZE, seed=seed)


def _p99_ms(times: list[list[float]], *, begin: float, end: float = math.inf) -> float:
    """Of the gaps of all streams that end within (begin, end]."""
    gaps = sorted(
        after - before
        for stream in times
        for before, after in itertools.pairwise(stream)
        if begin < after <= end
    )
    return 1e3 * percentile(gaps, 0.99)


def _second_turn(engine: LeptonEngine, shared: int) -> Row:
    """The same engine and length: once with a beginning that nobody has sent, once with one that it knows."""
    cold, warm = [], []
    for number in range(TRIES):
        (begin,) = random_prompts(1, shared, vocab_size=VOCAB_SIZE, seed=number)
        first, second = random_prompts(2, NEW, vocab_size=VOCAB_SIZE, seed=number)
        cold.append(engine.prefill(begin + first))
        warm.append(engine.prefill(begin + second))
    return Row(
        what=f"time to first token of a second turn ({shared:,} shared tokens, {NEW} new), over the cold one",
        value=min(warm) / min(cold),
        unit="×",
        at_most=0.1,
        how=f"{1e3 * min(warm):.1f} ms over {1e3 * min(cold):.1f} ms",
    )
