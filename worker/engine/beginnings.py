"""What sequences take from the prefix cache, and what they leave there.

    is_coming  a prompt may begin, but this very step computes more of its beginning: one step later that is known
    begin      a prompt gets a slot: the longest known beginning is loaded instead of computed
    of_chunk   blocks that are complete with a chunk of a prompt
    tell       a prompt is complete: routers may know what of it is kept
    of_rows    blocks that are complete with decoded tokens, where those may be shared (`CacheLayout.keeps_decoded`)

What is named in a batch is reserved, until the step is known to have worked (`commit`) or not (`drop`).
"""

from __future__ import annotations

from worker.engine.ports import BlockSave, CacheLayout, RowSave
from worker.engine.prefix import BLOCK_TOKENS, PrefixCache, block_keys, num_reusable
from worker.engine.prefix_digest import PrefixDigest
from worker.engine.sequence import Sequence

__all__ = ["Beginnings"]


class Beginnings:
    """Owner of `Sequence.block_keys`; engine thread only."""

    def __init__(self, layout: CacheLayout, digest: PrefixDigest) -> None:
        """`digest` is told what is kept, and what no longer is."""
        self._cache = PrefixCache(layout.num_blocks, on_eviction=digest.evict)
        self._digest = digest
        self._keeps_decoded = layout.keeps_decoded

    def __repr__(self) -> str:
        return f"<Beginnings {self._cache!r}>"

    def is_coming(self, sequence: Sequence, now: float) -> bool:
        """Whether another prompt computes in this step what this one could take over in the next.

        Not of one that would be refused if it did not begin now.
        """
        if not self._cache.has_pending or (
            sequence.start_by is not None and sequence.start_by <= now
        ):
            return False
        return self._cache.grows_with(self._usable(sequence))

    def begin(self, sequence: Sequence) -> tuple[int, ...]:
        """The blocks that hold the beginning of a prompt; the sequence counts them as computed."""
        blocks = self._cache.match(self._usable(sequence))
        sequence.num_cached_tokens = len(blocks) * BLOCK_TOKENS
        sequence.num_computed_tokens = sequence.num_cached_tokens
        return blocks

    def of_chunk(self, sequence: Sequence, start: int, end: int) -> tuple[BlockSave, ...]:
        """The blocks that end in (start, end] and are not kept yet, as far as there is room."""
        saves = []
        for index in range(start // BLOCK_TOKENS, end // BLOCK_TOKENS):
            if index >= len(sequence.block_keys):
                break
            block = self._cache.reserve(sequence.block_keys[index])
            if block is not None:
                saves.append(BlockSave(block, index * BLOCK_TOKENS))
        return tuple(saves)

    def of_rows(self, decode: tuple[Sequence, ...]) -> tuple[RowSave, ...]:
        """The blocks that are complete with the last token of each row and are not kept yet.

        What a draft completes comes with the step after it, when it is known to stand; of a sequence that ends with a
        draft a block may thus be missing.
        """
        if not (self._keeps_decoded and self._cache.num_blocks):
            return ()
        saves = []
        for sequence in decode:
            end, known = sequence.num_computed_tokens + 1, len(sequence.block_keys)
            if end // BLOCK_TOKENS <= known or sequence.salt is None:
                continue
            ids = (*sequence.prompt_ids, *sequence.generated_ids)[:end]
            sequence.block_keys = block_keys(ids, sequence.salt, sequence.block_keys)
            saves += [
                RowSave(sequence, save)
                for save in self.of_chunk(sequence, known * BLOCK_TOKENS, end)
            ]
        return tuple(saves)

    def tell(self, sequence: Sequence) -> None:
        """Its prompt is complete: routers may know what of it is kept."""
        kept = sequence.block_keys[: self._cache.num_kept(sequence.block_keys)]
        self._digest.hold_marks(kept, sequence.marks)

    def commit(self) -> None:
        """The step worked: what was reserved can be found from now on."""
        self._cache.commit()

    def drop(self) -> None:
        """The step failed: what was reserved may not have been written."""
        self._cache.drop()

    def _usable(self, sequence: Sequence) -> tuple[bytes, ...]:
        """Keys of the blocks of its prompt that may come from the cache."""
        if sequence.salt is None or not self._cache.num_blocks:
            return ()
        if not sequence.block_keys:
            sequence.block_keys = block_keys(sequence.prefill_ids, sequence.salt)
        return sequence.block_keys[: num_reusable(sequence.num_prefill_tokens)]

    def check_integrity(self) -> None:
        """Raises RuntimeError when blocks are lost or doubled."""
        self._cache.check_integrity()
