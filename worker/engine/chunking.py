"""How long the next chunk of a prompt is. Pure.

Chunk borders must not change the result. The kernels for one row differ from those for many (by 0.02 in the logits with
quantised weights), and with some block sizes so does the last row of an odd run. So:

- a chunk of one token occurs only when the prompt has one token;
- every chunk but the last has an even number of tokens.

Then each token is computed by the same kernel, and stands at an odd end or not, wherever the borders are.
"""

from __future__ import annotations

__all__ = ["chunk_size"]


def chunk_size(remaining: int, budget: int) -> int:
    """Tokens to compute now of `remaining` (at least 1) when `budget` are allowed; 0 when none can be.

    With a budget of 4 or more it is never 0: a prompt that is first in line always moves.
    """
    if remaining <= budget:
        return remaining
    size = budget - budget % 2
    if remaining - size == 1:
        size -= 2
    return max(size, 0)
