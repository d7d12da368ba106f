"""What is measured of an engine, and what an engine must be able to do for it.

An engine runs in a process and often in an environment of its own (`serve`), so nothing here needs more than Python.

    prefill   one prompt of n tokens → seconds from handing it over to its first token
    decode    c prompts, each completed by m tokens, greedily, without an end token → token times
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from cli.bench.spread import percentile

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Decoded", "Engine", "Facts", "random_prompts", "window_rate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """One measurement of decoding at some number of streams."""

    streams: int
    tokens_per_s: float
    """Of all streams together, while all of them decode."""
    itl_ms: float
    """Median time between two tokens of one stream, milliseconds."""
    itl_ms_p99: float
    step_ms: float | None = None
    """Median time from the end of one step to the end of the next, milliseconds; None where steps cannot be seen."""
    inside: float | None = None
    """Share of those steps that was spent inside the library that multiplies; the rest is Python. None as above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What an engine says of itself."""

    name: str
    version: str
    precision: str
    threads: int
    notes: dict[str, str] = field(default_factory=dict)
    weights_bytes: int | None = None
    """That the engine must hold to compute as it does; None where nobody can tell."""
    looked_up_bytes: int | None = None
    """Of the weights those of which a step reads single rows: the embedding, unless it is the output matrix, too."""
    kv_bytes_per_token: int | None = None
    """Keys and values of one position."""


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

    def logits(self, prompts: list[list[int]]) -> npt.NDArray[np.float32]:
        """What comes after each prompt, [prompts, vocab]: all but the last token are computed at once, the last by
        itself, so that both ways to compute have a part in it. Raises `NotImplementedError` where there is no way.
        """
        ...

    def close(self) -> None:
        """Gives back what can be given back."""
        ...


def random_prompts(num: int, num_tokens: int, *, vocab_size: int, seed: int) -> list[list[int]]:
    """Prompts that share no beginning, the same for every engine; ids from 10 on, below are special tokens."""
    rng = random.Random(f"{seed} {num} {num_tokens}")
    return [[rng.randrange(10, vocab_size) for _ in range(num_tokens)] for _ in range(num)]


def window_rate(
    times: list[list[float]], *, step_ms: float | None = None, inside: float | None = None
) -> Decoded:
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
        itl_ms=1e3 * percentile(gaps, 0.5),
        itl_ms_p99=1e3 * percentile(gaps, 0.99),
        step_ms=step_ms,
        inside=inside,
    )
