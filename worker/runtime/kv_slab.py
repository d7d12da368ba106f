"""Where keys and values live: per layer one array for each, rows of fixed length, bound to the graph by address.

    rows     [slots, kv_heads, capacity, head_size]    host memory, in the slab's precision
    blocks   [blocks, kv_heads, BLOCK_TOKENS, head_size]   beginnings of prompts, copied in and out of rows
    scales   the same shapes without the last axis, float32, where the precision has them

Our own operators keep keys in tiles of TILE positions, so a row is copied in whole tiles, and its capacity is rounded
up to one.

Arrays take address space; the system gives memory to pages of 4 KiB when they are first written (`_reserve`). The
addresses never change.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from worker.engine.ports import CacheLayout
from worker.engine.prefix import BLOCK_TOKENS
from worker.kernels.library import LANES as TILE
from worker.runtime.kv_precision import FP32, KvPrecision
from worker.runtime.memory import forget_pages

__all__ = ["KvSlab", "LayerAddress", "block_bytes", "tokens_within", "whole_tiles"]

Rows = npt.NDArray[Any]

NO_HUGE_PAGES: Final = getattr(mmap, "MADV_NOHUGEPAGE", None)


def block_bytes(
    *, num_layers: int, num_kv_heads: int, head_size: int, precision: KvPrecision = FP32
) -> int:
    """Memory of one block of keys and values in all layers."""
    return 2 * num_layers * num_kv_heads * BLOCK_TOKENS * precision.position_bytes(head_size)


def tokens_within(
    num_bytes: int,
    *,
    num_slots: int,
    num_layers: int,
    num_kv_heads: int,
    head_size: int,
    precision: KvPrecision = FP32,
) -> int:
    """Most tokens for which rows take no more than `num_bytes`, however they are spread over so many rows; 0: none.

    A row may have written a part of a tile, and of the first and last page, of each head.
    """
    heads = 2 * num_layers * num_kv_heads
    position = heads * precision.position_bytes(head_size)
    pages = 2 * mmap.PAGESIZE * heads * (1 + precision.is_scaled)
    return max(0, num_bytes - num_slots * (pages + TILE * position)) // position


@dataclass(frozen=True, slots=True)
class LayerAddress:
    """Where the rows from some slot on begin, for one layer."""

    key: int
    value: int
    key_scale: int | None = None
    value_scale: int | None = None


class KvSlab:
    """Rows of keys and values for `layout.num_slots` sequences."""

    def __init__(
        self,
        layout: CacheLayout,
        *,
        num_layers: int,
        num_kv_heads: int,
        head_size: int,
        precision: KvPrecision = FP32,
    ) -> None:
        self.layout = layout
        self.precision = precision
        self._memory: list[mmap.mmap] = []
        """Of rows."""
        self._blocks: list[tuple[Rows, Rows]] = []
        """Rows and blocks that belong together: keys and values of each layer, and their scales."""
        shape = (layout.num_slots, num_kv_heads, whole_tiles(layout.capacity), head_size)
        both = range(2 * num_layers)
        self._rows = [self._add(shape, precision.dtype) for _ in both]
        """Keys of all layers, then values."""
        self._scales = [self._add(shape[:3], np.float32) for _ in both if precision.is_scaled]

    def __repr__(self) -> str:
        return f"<KvSlab {len(self._rows)} × {self._rows[0].shape} {self.precision.name}>"

    def row_shape(self, num_slots: int) -> list[int]:
        """Shape of a contiguous range of slots."""
        return [num_slots, *self._rows[0].shape[1:]]

    def addresses(self, slot: int, num_slots: int) -> list[LayerAddress]:
        """Per layer, the addresses of slots [slot, slot + num_slots)."""
        if not 0 <= slot <= slot + num_slots <= self.layout.num_slots or num_slots < 1:
            raise AssertionError(f"slots {slot}..{slot + num_slots - 1} of {self.layout.num_slots}")
        at = [rows[slot:].ctypes.data for rows in self._rows]
        scales: list[int | None] = [rows[slot:].ctypes.data for rows in self._scales]
        scales = scales or [None] * len(at)
        layers = len(at) // 2
        return [
            LayerAddress(at[i], at[layers + i], scales[i], scales[layers + i])
            for i in range(layers)
        ]

    def row(self, slot: int) -> list[Rows]:
        """One row's keys of all layers, then values: views [kv_heads, capacity, head_size]."""
        return [rows[slot] for rows in self._rows]

    def copy(self, source: int, target: int, num_tokens: int) -> None:
        """Positions [0, num_tokens) of one row to another, in all layers."""
        slots = self.layout.num_slots
        if not (
            0 <= source < slots and 0 <= target < slots and 0 <= num_tokens <= self.layout.capacity
        ):
            raise AssertionError(f"copy of {num_tokens} tokens from slot {source} to {target}")
        end = whole_tiles(num_tokens)
        for rows, _ in self._blocks:
            rows[target, :, :end] = rows[source, :, :end]

    def clear(self) -> None:
        """Rows become zeros and give their memory back; blocks stay."""
        for memory in self._memory:
            forget_pages(memory)

    def trim(self, slot: int, num_tokens: int) -> None:
        """Positions from `num_tokens` on of a row give their memory back, in all layers, by whole tiles and pages."""
        if not (0 <= slot < self.layout.num_slots and 0 <= num_tokens <= self.layout.capacity):
            raise AssertionError(f"trim of slot {slot} to {num_tokens} of {self.layout}")
        for memory, (rows, _) in zip(self._memory, self._blocks, strict=True):
            first = slot * rows.strides[0]
            if not num_tokens:  # one call for all heads
                forget_pages(memory, first, first + rows.strides[0])
                continue
            kept = whole_tiles(num_tokens) * rows.strides[2]
            for head in range(first, first + rows.strides[0], rows.strides[1]):
                forget_pages(memory, head + kept, head + rows.strides[1])

    def load(self, slot: int, blocks: tuple[int, ...]) -> None:
        """Blocks, one after another, to the beginning of a row, in all layers."""
        num_tokens = len(blocks) * BLOCK_TOKENS
        self._check_blocks(slot, blocks, num_tokens)
        for rows, kept in self._blocks:
            target = rows[slot, :, :num_tokens]
            target = target.reshape(len(target), -1, BLOCK_TOKENS, *target.shape[2:])
            for index, block in enumerate(blocks):
                target[:, index] = kept[block]

    def save(self, slot: int, start: int, block: int) -> None:
        """Positions [start, start + BLOCK_TOKENS) of a row to a block, in all layers."""
        end = start + BLOCK_TOKENS
        self._check_blocks(slot, (block,), end)
        for rows, kept in self._blocks:
            kept[block] = rows[slot, :, start:end]

    def _add(self, shape: tuple[int, ...], dtype: type[np.generic]) -> Rows:
        """Rows, and the blocks that belong to them."""
        self._memory.append(_reserve(shape, dtype))
        rows: Rows = np.frombuffer(self._memory[-1], dtype).reshape(shape)
        block = (self.layout.num_blocks, shape[1], BLOCK_TOKENS, *shape[3:])
        blocks: Rows = np.zeros(block, dtype)
        if self.layout.num_blocks:
            blocks = np.frombuffer(_reserve(block, dtype), dtype).reshape(block)
        self._blocks.append((rows, blocks))
        return rows

    def _check_blocks(self, slot: int, blocks: tuple[int, ...], end: int) -> None:
        layout = self.layout
        if not (
            0 <= slot < layout.num_slots
            and all(0 <= block < layout.num_blocks for block in blocks)
            and BLOCK_TOKENS <= end <= layout.capacity
        ):
            raise AssertionError(f"blocks {blocks} and slot {slot} up to {end} of {layout}")


def whole_tiles(num_tokens: int) -> int:
    """`num_tokens` rounded up to whole tiles."""
    return -(-num_tokens // TILE) * TILE


def _reserve(shape: tuple[int, ...], dtype: type[np.generic]) -> mmap.mmap:
    """Zeros that take memory page by page, as they are written.

    Not by NumPy: it asks for huge pages, and with those a row of 2 MiB or less is there with its first token.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if NO_HUGE_PAGES is not None:
        memory.madvise(NO_HUGE_PAGES)
    return memory
