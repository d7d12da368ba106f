"""Where keys and values live: per layer one array for each, rows of fixed length, bound to the graph by address.

    rows     [slots, kv_heads, capacity, head_size]    float32, host memory
    blocks   [blocks, kv_heads, BLOCK_TOKENS, head_size]   beginnings of prompts, copied in and out of rows

Our own operators keep keys in tiles of TILE positions, so a row is copied in whole tiles, and its capacity is rounded
up to one.

Arrays take address space; the system gives memory to pages of 4 KiB when they are first written (`_reserve`). The
addresses never change.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from worker.engine.ports import CacheLayout
from worker.engine.prefix import BLOCK_TOKENS
from worker.kernels.library import LANES as TILE
from worker.runtime.memory import forget_pages

__all__ = ["KvSlab", "LayerAddress", "block_bytes", "whole_tiles"]

Rows = npt.NDArray[np.float32]

NO_HUGE_PAGES: Final = getattr(mmap, "MADV_NOHUGEPAGE", None)


def block_bytes(*, num_layers: int, num_kv_heads: int, head_size: int) -> int:
    """Memory of one block of keys and values in all layers."""
    return 2 * num_layers * num_kv_heads * BLOCK_TOKENS * head_size * np.float32().nbytes


@dataclass(frozen=True, slots=True)
class LayerAddress:
    """Where the rows from some slot on begin, for one layer."""

    key: int
    value: int


class KvSlab:
    """Rows of keys and values for `layout.num_slots` sequences."""

    def __init__(
        self, layout: CacheLayout, *, num_layers: int, num_kv_heads: int, head_size: int
    ) -> None:
        self.layout = layout
        row = (layout.num_slots, num_kv_heads, whole_tiles(layout.capacity), head_size)
        block = (layout.num_blocks, num_kv_heads, BLOCK_TOKENS, head_size)
        layers = range(num_layers)
        self._memory = [_reserve(row) for _ in (*layers, *layers)]
        arrays = [np.frombuffer(memory, np.float32).reshape(row) for memory in self._memory]
        self._keys: list[Rows] = arrays[:num_layers]
        self._values: list[Rows] = arrays[num_layers:]
        self._blocks: list[tuple[Rows, Rows]] = [(rows, _blocks(block)) for rows in arrays]
        """Rows and blocks that belong together, for each layer's keys and values."""

    def __repr__(self) -> str:
        return f"<KvSlab {len(self._keys)} layers of 2 × {self._keys[0].shape}>"

    def row_shape(self, num_slots: int) -> list[int]:
        """Shape of a contiguous range of slots."""
        return [num_slots, *self._keys[0].shape[1:]]

    def addresses(self, slot: int, num_slots: int) -> list[LayerAddress]:
        """Per layer, the addresses of slots [slot, slot + num_slots)."""
        if not 0 <= slot <= slot + num_slots <= self.layout.num_slots or num_slots < 1:
            raise AssertionError(f"slots {slot}..{slot + num_slots - 1} of {self.layout.num_slots}")
        return [
            LayerAddress(key=key[slot:].ctypes.data, value=value[slot:].ctypes.data)
            for key, value in zip(self._keys, self._values, strict=True)
        ]

    def copy(self, source: int, target: int, num_tokens: int) -> None:
        """Positions [0, num_tokens) of one row to another, in all layers."""
        slots = self.layout.num_slots
        if not (
            0 <= source < slots and 0 <= target < slots and 0 <= num_tokens <= self.layout.capacity
        ):
            raise AssertionError(f"copy of {num_tokens} tokens from slot {source} to {target}")
        end = whole_tiles(num_tokens)
        for rows in (*self._keys, *self._values):
            rows[target, :, :end] = rows[source, :, :end]

    def clear(self) -> None:
        """Rows become zeros and give their memory back; blocks stay."""
        for memory in self._memory:
            forget_pages(memory)

    def load(self, slot: int, blocks: tuple[int, ...]) -> None:
        """Blocks, one after another, to the beginning of a row, in all layers."""
        num_tokens = len(blocks) * BLOCK_TOKENS
        self._check_blocks(slot, blocks, num_tokens)
        for rows, kept in self._blocks:
            num_heads, head_size = rows.shape[1], rows.shape[3]
            target = rows[slot, :, :num_tokens].reshape(num_heads, -1, BLOCK_TOKENS, head_size)
            for index, block in enumerate(blocks):
                target[:, index] = kept[block]

    def save(self, slot: int, start: int, block: int) -> None:
        """Positions [start, start + BLOCK_TOKENS) of a row to a block, in all layers."""
        end = start + BLOCK_TOKENS
        self._check_blocks(slot, (block,), end)
        for rows, kept in self._blocks:
            kept[block] = rows[slot, :, start:end]

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


def _blocks(shape: tuple[int, ...]) -> Rows:
    if not shape[0]:
        return np.zeros(shape, np.float32)
    return np.frombuffer(_reserve(shape), np.float32).reshape(shape)


def _reserve(shape: tuple[int, ...]) -> mmap.mmap:
    """float32 zeros that take memory page by page, as they are written.

    Not by NumPy: it asks for huge pages, and with those a row of 2 MiB or less is there with its first token.
    """
    size = int(np.prod(shape)) * np.float32().nbytes
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if NO_HUGE_PAGES is not None:
        memory.madvise(NO_HUGE_PAGES)
    return memory
