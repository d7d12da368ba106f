"""What is measured of an engine, and what an engine must be able to do for it.

An engine runs in a process and often in an environment of its own (`serve`), so nothing here needs more than Python.

    prefill   one prompt of n tokens → seconds from handing it over to its first token
    decode    c prompts, each completed by m tokens, greedily, without an end token → token times
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Decoded", "Engine", "random_prompts", "window_rate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """One measurement of decoding at some number of streams."""

    streams: int
    tokens_per_s: float
    """Of all streams together, while all of them decode."""
    step_ms: float
    """Median time between two tokens of one stream, milliseconds."""
    step_ms_p99: float
    inside: float | None = None
    """Share of that time that was spent inside the library that multiplies; None when it cannot be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What an engine says of itself."""

    name: str
    version: str
    precision: str
    threads: int
    notes: dict[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """One model in one engine; calls come one at a time."""

    @property
    def facts(self) -> Facts: ...

    def prefill(self, prompt: list[int]) -> float:
        """Seconds to the first token of `prompt`."""
        ...

    def decode(self, prompts: list[list[int]], num_tokens: int) -> Decoded:
        """Completes every prompt by `num_tokens` tokens."""
        ...

    def close(self) -> None:
        """Gives back what can be given back."""
        ...


def random_prompts(num: int, num_tokens: int, *, vocab_size: int, seed: int) -> list[list[int]]:
    """Prompts that share no beginning, the same for every engine; ids from 10 on, below are special tokens."""
    rng = random.Random(f"{seed} {num} {num_tokens}")
    return [[rng.randrange(10, vocab_size) for _ in range(num_tokens)] for _ in range(num)]


def window_rate(times: list[list[float]], inside: float | None = None) -> Decoded:
    """Rate while all streams decode: from the last first token to the first last token.

    `times`: when each token came, seconds, one list a stream. Raises ValueError when there was no such time.
    """
    begin = max(stream[0] for stream in times)
    end = min(stream[-1] for stream in times)
    counted = sum(begin < at <= end for stream in times for at in stream)
    gaps = sorted(
        after - before
        for stream in times
        for before, after in itertools.pairwise(stream)
        if begin <= before and after <= end
    )
    if not gaps or end <= begin:
        raise ValueError(f"{len(times)} streams never decoded together; ask for more tokens")
    return Decoded(
        streams=len(times),
        tokens_per_s=counted / (end - begin),
        step_ms=1e3 * gaps[len(gaps) // 2],
        step_ms_p99=1e3 * gaps[min(len(gaps) - 1, int(0.99 * len(gaps)))],
        inside=inside,
    )
