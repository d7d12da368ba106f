"""How much of the prompts an all-knowing cluster could have had in its caches: one cache, endless, at once."""

from __future__ import annotations

from collections.abc import Iterable

from loadtest.sim.trace import BLOCK_TOKENS, Ask

__all__ = ["cacheable_tokens"]


def cacheable_tokens(asks: Iterable[Ask]) -> int:
    """Prompt tokens that begin as an earlier prompt did."""
    known: set[int] = set()
    tokens = 0
    for ask in asks:
        for key in ask.prefix:
            if key not in known:
                break
            tokens += BLOCK_TOKENS
        known.update(ask.prefix)
    return tokens
