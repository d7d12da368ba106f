"""Which beginnings of prompts a prefix cache holds, told to routers by the hashes by which these know them.

The cache knows blocks of tokens, a router hashes what callers wrote (`common.request.prompt_prefix`). A hash stands
here for the block in which its beginning ends: it is held from the moment in which that block and all before it are
kept, until the block is evicted.

    engine thread   hold(block key, hash), evict(block key)
    event loop      since(n) ──> what is different from what a listener knows that has heard up to change n

Nobody is waited for: a listener that has never listened, or missed more than is remembered, gets everything.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, final

from worker.engine.prefix import BLOCK_TOKENS

__all__ = ["NO_NEWS", "DigestNews", "PrefixDigest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestNews:
    """What a listener did not know; no hash is in it twice."""

    number: int
    """Of the last change: how far the listener has heard then."""
    is_whole: bool = False
    """`held` is all that there is; whatever else the listener was told is gone."""
    held: tuple[int, ...] = ()
    gone: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to tell."""
        return self.is_whole or bool(self.held) or bool(self.gone)


NO_NEWS: Final = DigestNews(number=0)


@final
class PrefixDigest:
    """At most `hashes_max` hashes are held, those that came last, and as many remembered as gone; 0: none.

    Any thread; the lock is kept for dictionary operations only.
    """

    def __init__(self, hashes_max: int) -> None:
        self._hashes_max = hashes_max
        self._lock = threading.Lock()
        self._number = 0
        """Of the last change."""
        self._complete_from = 0
        """Of what was gone up to this change not all is remembered."""
        self._held: OrderedDict[int, tuple[int, Hashable]] = OrderedDict()
        """Hash → its last change, ascending; its block."""
        self._gone: OrderedDict[int, int] = OrderedDict()
        """Hash → its last change, ascending."""
        self._hashes_of: dict[Hashable, dict[int, None]] = {}
        """Block → what is held by it."""

    def __repr__(self) -> str:
        return (
            f"<PrefixDigest {len(self._held)} held, {len(self._gone)} gone, change {self._number}>"
        )

    def __len__(self) -> int:
        """Hashes that are held."""
        return len(self._held)

    def hold(self, block: Hashable, prefix_hash: int) -> None:
        """The beginning ends in that block, and all of it is kept."""
        if not self._hashes_max:
            return
        with self._lock:
            known = self._held.get(prefix_hash)
            if known is not None:
                # The same beginning, cut into tokens of another prompt: the later one was seen just now.
                self._leave(prefix_hash, known[1])
                self._held[prefix_hash] = (known[0], block)
            else:
                self._number += 1
                self._gone.pop(prefix_hash, None)
                self._held[prefix_hash] = (self._number, block)
            self._hashes_of.setdefault(block, {})[prefix_hash] = None
            while len(self._held) > self._hashes_max:
                self._drop(next(iter(self._held)))

    def hold_marks(self, kept: Sequence[bytes], marks: Sequence[tuple[int, int]]) -> None:
        """Of a prompt whose first blocks are `kept` (their keys), the beginnings of `marks` (number of tokens, hash)
        that end in one of them.
        """
        for num_tokens, prefix_hash in marks:
            num_blocks = num_tokens // BLOCK_TOKENS
            if 0 < num_blocks <= len(kept):
                self.hold(kept[num_blocks - 1], prefix_hash)

    def evict(self, block: Hashable) -> None:
        """The block is kept no longer."""
        with self._lock:
            for prefix_hash in tuple(self._hashes_of.get(block, ())):
                self._drop(prefix_hash)

    def since(self, number: int | None) -> DigestNews:
        """For a listener that has heard up to change `number`; None: nothing yet."""
        with self._lock:
            if number is None or number < self._complete_from:
                return DigestNews(number=self._number, is_whole=True, held=tuple(self._held))
            # Latest first: only what is new is looked at.
            held = takewhile(lambda h: self._held[h][0] > number, reversed(self._held))
            gone = takewhile(lambda h: self._gone[h] > number, reversed(self._gone))
            return DigestNews(number=self._number, held=tuple(held), gone=tuple(gone))

    def _drop(self, prefix_hash: int) -> None:
        _, block = self._held.pop(prefix_hash)
        self._leave(prefix_hash, block)
        self._number += 1
        self._gone[prefix_hash] = self._number
        while len(self._gone) > self._hashes_max:
            _, self._complete_from = self._gone.popitem(last=False)

    def _leave(self, prefix_hash: int, block: Hashable) -> None:
        hashes = self._hashes_of[block]
        del hashes[prefix_hash]
        if not hashes:
            del self._hashes_of[block]
