"""How long the next chunk of a prompt is. Pure.

Chunk borders must not change the result. The kernels for one row differ from those for many (by 0.02 in the logits with
quantised weights), and with some block sizes so does the last row of an odd run. So:

- a chunk of one token occurs only when the prompt has one token;
- every chunk but the last has an even number of tokens.

Then each token is computed by the same kernel, and stands at an odd end or not, wherever the borders are.
"""

from __future__ import annotations

from typing import Final

__all__ = ["CHUNK_TOKENS_MIN", "chunk_size"]

CHUNK_TOKENS_MIN: Final = 4
"""Least budget with which any prompt moves: of 3 tokens, 2 could not be computed without leaving one behind."""


def chunk_size(remaining: int, budget: int) -> int:
    """Tokens to compute now, at least 1, of `remaining` (at least 1) when `budget` (at least 4) are allowed."""
    if remaining <= budget:
        return remaining
    size = budget - budget % 2
    if remaining - size == 1:
        size -= 2
    return size
