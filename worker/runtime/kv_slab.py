"""Where keys and values live: per layer one array for each, rows of fixed length, bound to the graph by address.

    rows     [slots, kv_heads, capacity, head_size]    in the slab's precision
    blocks   [blocks, kv_heads, BLOCK_TOKENS, head_size]   beginnings of prompts, copied in and out of rows
    scales   the same shapes without the last axis, float32, where the precision has them

Our own operators keep keys in tiles of TILE positions, so a row is copied in whole tiles, and its capacity is rounded
up to one. The addresses never change. In which memory all this is, and how it is moved there, is not known here
(`worker.runtime.devices`).
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from worker.engine.ports import CacheLayout
from worker.engine.prefix import BLOCK_TOKENS
from worker.kernels.library import LANES as TILE
from worker.runtime.devices.memory import KvMemory, Plane
from worker.runtime.kv_precision import FP32, KvPrecision

__all__ = [
    "KvSlab",
    "LayerAddress",
    "block_bytes",
    "capacity_within",
    "tokens_within",
    "whole_tiles",
]

PlaneT = TypeVar("PlaneT", bound=Plane)


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


def capacity_within(
    num_bytes: int,
    *,
    num_slots: int,
    num_layers: int,
    num_kv_heads: int,
    head_size: int,
    precision: KvPrecision = FP32,
) -> int:
    """Most tokens per row for which so many whole rows take no more than `num_bytes`, in whole tiles; 0: none.

    For memory that is taken at once.
    """
    position = 2 * num_layers * num_kv_heads * precision.position_bytes(head_size)
    return max(0, num_bytes) // (num_slots * position * TILE) * TILE


@dataclass(frozen=True, slots=True)
class LayerAddress:
    """Where the rows from some slot on begin, for one layer."""

    key: int
    value: int
    key_scale: int | None = None
    value_scale: int | None = None


class KvSlab(Generic[PlaneT]):
    """Rows of keys and values for `layout.num_slots` sequences."""

    def __init__(
        self,
        layout: CacheLayout,
        memory: KvMemory[PlaneT],
        *,
        num_layers: int,
        num_kv_heads: int,
        head_size: int,
        precision: KvPrecision = FP32,
    ) -> None:
        self.layout = layout
        self.precision = precision
        self._shape = (layout.num_slots, num_kv_heads, whole_tiles(layout.capacity), head_size)
        both, blocks = range(2 * num_layers), layout.num_blocks
        self.planes = [memory.plane(self._shape, blocks, precision.dtype) for _ in both]
        """Keys of all layers, then values."""
        self._scales = [
            memory.plane(self._shape[:3], blocks, np.float32) for _ in both if precision.is_scaled
        ]
        self._all = [*self.planes, *self._scales]

    def __repr__(self) -> str:
        return f"<KvSlab {len(self.planes)} × {self._shape} {self.precision.name}>"

    def row_shape(self, num_slots: int) -> list[int]:
        """Shape of a contiguous range of slots."""
        return [num_slots, *self._shape[1:]]

    def addresses(self, slot: int, num_slots: int) -> list[LayerAddress]:
        """Per layer, the addresses of slots [slot, slot + num_slots)."""
        if not 0 <= slot <= slot + num_slots <= self.layout.num_slots or num_slots < 1:
            raise AssertionError(f"slots {slot}..{slot + num_slots - 1} of {self.layout.num_slots}")
        at = [plane.address(slot) for plane in self.planes]
        scales: list[int | None] = [plane.address(slot) for plane in self._scales]
        scales = scales or [None] * len(at)
        layers = len(at) // 2
        return [
            LayerAddress(at[i], at[layers + i], scales[i], scales[layers + i])
            for i in range(layers)
        ]

    def copy(self, source: int, target: int, num_tokens: int) -> None:
        """Positions [0, num_tokens) of one row to another, in all layers."""
        slots = self.layout.num_slots
        if not (
            0 <= source < slots and 0 <= target < slots and 0 <= num_tokens <= self.layout.capacity
        ):
            raise AssertionError(f"copy of {num_tokens} tokens from slot {source} to {target}")
        end = whole_tiles(num_tokens)
        for plane in self._all:
            plane.copy(source, target, end)

    def clear(self) -> None:
        """Nobody will read a row again: their memory goes back where it can; blocks stay."""
        for plane in self._all:
            plane.clear()

    def trim(self, slot: int, num_tokens: int) -> None:
        """The same for positions from `num_tokens` on of a row, in all layers, by whole tiles."""
        if not (0 <= slot < self.layout.num_slots and 0 <= num_tokens <= self.layout.capacity):
            raise AssertionError(f"trim of slot {slot} to {num_tokens} of {self.layout}")
        for plane in self._all:
            plane.trim(slot, whole_tiles(num_tokens))

    def load(self, slot: int, blocks: tuple[int, ...]) -> None:
        """Blocks, one after another, to the beginning of a row, in all layers."""
        self._check_blocks(slot, blocks, len(blocks) * BLOCK_TOKENS)
        for plane in self._all:
            plane.load(slot, blocks)

    def save(self, slot: int, start: int, block: int) -> None:
        """Positions [start, start + BLOCK_TOKENS) of a row to a block, in all layers."""
        self._check_blocks(slot, (block,), start + BLOCK_TOKENS)
        for plane in self._all:
            plane.save(slot, start, block)

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
