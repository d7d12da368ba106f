"""What computes a batch: the seam between drawing tokens (`worker.runtime.runner`) and the graphs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from worker.engine.ports import Batch, CacheLayout, PrefillChunk
from worker.engine.sequence import Sequence
from worker.runtime.kv_slab import KvSlab

__all__ = [
    "Computed",
    "Forward",
    "bind_input",
    "bind_output",
    "check_batch",
    "demand",
    "end_prompt",
    "fill_rows",
    "last_id",
    "save_blocks",
    "slot_of",
]


class Computed(NamedTuple):
    """What there is to draw from; views that the next run overwrites.

    A sequence with a draft comes by itself, once for each place that may be drawn from.
    """

    sequences: tuple[Sequence, ...]
    logits: npt.NDArray[np.float32]
    """[sequences, vocab]"""
    best: npt.NDArray[np.int64] | None = None
    """[sequences]: the id of the largest logit, the lowest among equals, −1 where one is not finite; None when the
    graph does not look for it."""


class Forward(Protocol):
    """Keys, values and graphs of one model. One thread at a time."""

    @property
    def layout(self) -> CacheLayout: ...

    def compute(self, batch: Batch) -> Iterator[Computed]:
        """Copies, trims, loads, prompt chunks, saves, decode; what there is to draw from, in any order."""
        ...

    def rest(self) -> None:
        """No sequence has a slot: gives the memory of the rows back."""
        ...


def check_batch(batch: Batch, layout: CacheLayout) -> None:
    """What the engine must hold to; an AssertionError here is a bug there, never bad input."""
    num_slots, capacity = layout.num_slots, layout.capacity
    decoding = len(batch.decode)
    demand(decoding <= num_slots, f"{decoding} rows for {num_slots} slots")
    for at, row in enumerate(batch.decode):
        demand(row.slot == at, f"row {at} of the decode run is in slot {row.slot}")
        demand(row.num_tokens >= 1, f"row {at} has no token to start from")
        demand(row.num_computed_tokens == row.num_tokens - 1, f"row {at} lacks keys and values")
        demand(
            row.num_tokens <= capacity,
            f"row {at}: {row.num_tokens} tokens, capacity {capacity}",
        )
    _check_drafts(batch, layout)
    for chunk in batch.prefill:
        slot = slot_of(chunk.sequence)
        demand(decoding <= slot < num_slots, f"chunk in slot {slot}, decode run up to {decoding}")
        demand(
            0 <= chunk.start < chunk.end <= chunk.sequence.num_prefill_tokens <= capacity,
            f"chunk [{chunk.start}, {chunk.end}) of {chunk.sequence.num_prefill_tokens}, capacity {capacity}",
        )
        for follower in chunk.followers:
            demand(
                slot < slot_of(follower) < num_slots,
                f"follower in slot {follower.slot} of a chunk in slot {slot}",
            )


def _check_drafts(batch: Batch, layout: CacheLayout) -> None:
    demand(
        batch.num_drafted <= layout.num_drafted,
        f"{batch.num_drafted} tokens of drafts, at most {layout.num_drafted}",
    )
    for draft in batch.drafts:
        row, size = draft.sequence, len(draft.token_ids)
        demand(row in batch.decode, f"a draft of sequence {row.id}, which does not decode")
        demand(size >= 1, f"an empty draft of sequence {row.id}")
        demand(
            row.num_tokens + size <= layout.capacity,
            f"{row.num_tokens} tokens and {size} of a draft, capacity {layout.capacity}",
        )


def fill_rows(slab: KvSlab[Any], batch: Batch) -> None:
    """What comes before anything runs: copies, trims, then loads."""
    for copy in batch.copies:
        slab.copy(copy.source, copy.target, copy.num_tokens)
    for trim in batch.trims:
        slab.trim(trim.slot, trim.num_tokens)
    for load in batch.loads:
        slab.load(load.slot, load.blocks)


def save_blocks(slab: KvSlab[Any], chunk: PrefillChunk) -> None:
    """The blocks that are complete with a chunk that has run."""
    for save in chunk.saves:
        slab.save(slot_of(chunk.sequence), save.start, save.block)


def end_prompt(
    slab: KvSlab[Any],
    chunk: PrefillChunk,
    logits: npt.NDArray[np.float32],
    best: npt.NDArray[np.int64] | None = None,
) -> Computed:
    """Followers get the row of a prompt that has ended, and draw from its `logits` [1, vocab] as well; `best` [1]."""
    for follower in chunk.followers:
        slab.copy(slot_of(chunk.sequence), slot_of(follower), chunk.end)
    sequences = (chunk.sequence, *chunk.followers)
    num = len(sequences)
    return Computed(
        sequences,
        np.broadcast_to(logits, (num, logits.shape[1])),
        None if best is None else np.broadcast_to(best, num),
    )


def slot_of(sequence: Sequence) -> int:
    """Where its keys and values are."""
    demand(sequence.slot is not None, f"sequence {sequence.id} has no slot")
    return sequence.slot or 0


def last_id(sequence: Sequence) -> int:
    """The token that the next decode run starts from."""
    return sequence.generated_ids[-1] if sequence.generated_ids else sequence.prompt_ids[-1]


def bind_input(binding: Any, name: str, array: npt.NDArray[Any], shape: list[int]) -> None:
    """Binds the beginning of `array`, in this machine's memory, under `shape`; there are no bounds behind a raw address
    but these.
    """
    demand(array.size >= math.prod(shape), f"{name}: {shape} in a buffer of {array.size}")
    binding.bind_input(name, "cpu", 0, array.dtype.type, shape, array.ctypes.data)


def bind_output(binding: Any, name: str, array: npt.NDArray[Any], shape: list[int]) -> None:
    """The same for an output."""
    demand(array.size >= math.prod(shape), f"{name}: {shape} in a buffer of {array.size}")
    binding.bind_output(name, "cpu", 0, array.dtype.type, shape, array.ctypes.data)


def demand(condition: bool, message: str) -> None:  # noqa: FBT001 - reads like assert
    """An assertion that -O does not remove."""
    if not condition:
        raise AssertionError(message)
