"""Where in a tokenized prompt the beginnings end by which routers know it: a guess, wrong by a block now and then."""

from __future__ import annotations

from common.request.prompt_prefix import PromptPrefix

__all__ = ["marks_of"]


def marks_of(prefix: PromptPrefix, num_tokens: int) -> tuple[tuple[int, int], ...]:
    """(number of tokens, hash) of each beginning of a prompt of `num_tokens`, shortest first: tokens are taken to be
    spread evenly over the bytes. None of a prompt that is not hashed to its end, whose bytes nobody has counted.
    """
    if not prefix.is_whole or not prefix.num_bytes:
        return ()
    return tuple(
        (num_tokens * end // prefix.num_bytes, prefix_hash)
        for end, prefix_hash in zip(prefix.ends, prefix.hashes, strict=True)
    )
