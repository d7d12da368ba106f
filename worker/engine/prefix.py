"""Which beginnings of prompts are kept, and in which blocks. Counts only; the runtime stores. Engine thread only.

    tokens   │ 0 … 31 │ 32 … 63 │ 64 … 95 │ 96 …        a prompt of 100 tokens
    keys         k0   ──>  k1   ──>  k2                 k_i = hash(k_i-1, tokens of block i), k_-1 = hash(salt)
    blocks       7         2         9                  where the keys and values of these positions are kept

A key stands for a block *and all that is before it*, so equal keys mean equal keys and values at equal positions, and
the longest known beginning is found by walking along the keys. Callers with different salts share nothing.

    free ──reserve──> pending ──commit──> kept ──────reserve (least recently used)──> pending
      ^                  └──drop (the step failed)──┐
      └─────────────────────────────────────────────┘

Of one chain the last block goes first: a use renews the blocks from the last to the first. Who shares a beginning must
get the same bits as who computes it, so decoded tokens are kept only where they round as a prompt does
(`CacheLayout.keeps_decoded`); then a conversation computes in each turn only what is new.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from typing import Final

__all__ = ["BLOCK_TOKENS", "PrefixCache", "block_keys", "num_reusable"]

BLOCK_TOKENS: Final = 32
"""Positions per block: even, since a prompt may only be cut at even positions."""
_REST_MIN: Final = 2
"""Tokens of a prompt that are computed all the same: the last gives the first draw, and never in a run of its own."""
_KEY_BYTES: Final = 16


def block_keys(
    token_ids: SequenceOf[int], salt: bytes, known: tuple[bytes, ...] = ()
) -> tuple[bytes, ...]:
    """One key for each full block of `token_ids`, in order; 16 bytes each (BLAKE2b). `known` are the first of them."""
    root = hashlib.blake2b(salt, digest_size=_KEY_BYTES, person=b"lepton.prefix").digest()
    key, keys = known[-1] if known else root, list(known)
    first = len(known) * BLOCK_TOKENS
    for start in range(first, len(token_ids) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        block = array("q", token_ids[start : start + BLOCK_TOKENS]).tobytes()
        key = hashlib.blake2b(key + block, digest_size=_KEY_BYTES).digest()
        keys.append(key)
    return tuple(keys)


def num_reusable(num_prompt_tokens: int) -> int:
    """How many blocks of such a prompt may come from the cache."""
    return max(0, num_prompt_tokens - _REST_MIN) // BLOCK_TOKENS


class PrefixCache:
    """Least recently used; never holds more than `num_blocks` blocks. Breaking a rule of use raises RuntimeError.

    `on_eviction` is called with each key that is kept no longer.
    """

    def __init__(
        self, num_blocks: int, on_eviction: Callable[[bytes], None] = lambda _: None
    ) -> None:
        self._num_blocks = num_blocks
        self._on_eviction = on_eviction
        self._free = list(range(num_blocks - 1, -1, -1))
        """Lowest last: memory is touched no further than it is used."""
        self._kept: OrderedDict[bytes, int] = OrderedDict()
        """Key → block, least recently used first."""
        self._pending: dict[bytes, int] = {}
        """Reserved in this step, not yet known to be written."""

    def __repr__(self) -> str:
        return f"<PrefixCache {len(self._kept)} kept, {len(self._pending)} pending of {self._num_blocks}>"

    @property
    def num_blocks(self) -> int:
        """Most blocks that can be kept."""
        return self._num_blocks

    def __len__(self) -> int:
        """Blocks that can be found."""
        return len(self._kept)

    def num_kept(self, keys: SequenceOf[bytes]) -> int:
        """Blocks of the longest known beginning of `keys`; does not count as a use."""
        return next((n for n, key in enumerate(keys) if key not in self._kept), len(keys))

    @property
    def has_pending(self) -> bool:
        """Whether anything is written in this step."""
        return bool(self._pending)

    def grows_with(self, keys: SequenceOf[bytes]) -> bool:
        """Whether the longest known beginning of `keys` will be longer after this step."""
        at = self.num_kept(keys)
        return at < len(keys) and keys[at] in self._pending

    def match(self, keys: SequenceOf[bytes]) -> tuple[int, ...]:
        """The blocks of the longest known beginning of `keys`; it counts as used now."""
        known = keys[: self.num_kept(keys)]
        for key in reversed(known):
            self._kept.move_to_end(key)
        return tuple(self._kept[key] for key in known)

    def reserve(self, key: bytes) -> int | None:
        """A block to be written in this step, taken from the least recently used if need be.

        None when `key` is kept or pending already, or every block is pending.
        """
        if key in self._kept or key in self._pending:
            return None
        if self._free:
            block = self._free.pop()
        elif self._kept:
            evicted, block = self._kept.popitem(last=False)
            self._on_eviction(evicted)
        else:
            return None
        self._pending[key] = block
        return block

    def commit(self) -> None:
        """What was reserved has been written: it can be found from now on."""
        for key in reversed(self._pending):
            self._kept[key] = self._pending[key]
        self._pending.clear()

    def drop(self) -> None:
        """What was reserved may not have been written."""
        self._free += self._pending.values()
        self._pending.clear()

    def check_integrity(self) -> None:
        """Raises RuntimeError unless every block is in exactly one place."""
        blocks = sorted([*self._free, *self._kept.values(), *self._pending.values()])
        if blocks != list(range(self._num_blocks)):
            raise RuntimeError(f"blocks are lost or doubled: {self!r}")
        if self._kept.keys() & self._pending.keys():
            raise RuntimeError(f"a key is kept and pending: {self!r}")
