"""Where a prompt may be cut without changing a bit.

The CPU's attention works through the S positions of a run in tiles of q. A tile of one row takes another kernel than a
tile of two or more, and differs in the last bits. So a run of S positions with S mod q = 1 gives its last position
another result than the same prompt cut elsewhere: with heads of 64, runs of 129, 257, … tokens. Such a run is made as
two, the last two positions by themselves. (A run of one token is the same case; who chooses chunks keeps to two tokens
or more.)

q follows from the size of a head and of the level-2 cache: machines with different caches may differ in the last bits.
"""

from __future__ import annotations

import os
from typing import Final

__all__ = ["level2_cache_bytes", "query_tile", "runs"]


SC_LEVEL2_CACHE_SIZE: Final = 191
"""Linux's number for it; Python knows no name."""


def level2_cache_bytes() -> int:
    """Of one core, as ONNX Runtime asks for it; 0 where the system does not say."""
    try:
        return max(0, os.sysconf(SC_LEVEL2_CACHE_SIZE))
    except (OSError, ValueError):
        return 0


def query_tile(head_size: int, cache_bytes: int) -> int | None:
    """Rows per tile in ONNX Runtime 1.32 (measured: heads of 16, 32, 64, 96, 128); None when it does not tile.

    A tile of keys fills a quarter of the cache with keys, values and results, float32; a tile of queries has at most
    as many rows as a key and a value have numbers.
    """
    if cache_bytes == 0:
        return None
    keys = max(1, cache_bytes // (4 * 4 * 2 * head_size))
    return min(keys, 2 * head_size)


def runs(start: int, end: int, tile: int | None) -> list[tuple[int, int]]:
    """[start, end) as one run, or as two when its last tile would have a single row."""
    size = end - start
    if tile is None or tile < 3 or size < 3 or size % tile != 1:
        return [(start, end)]
    return [(start, end - 2), (end - 2, end)]
