"""Where keys and values live: per layer one array for each, rows of fixed length, bound to the graph by address.

    [slots, kv_heads, capacity, head_size]   float32, host memory

`np.zeros` takes address space only; the system gives memory to pages when they are first written. The addresses
never change.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.engine.ports import CacheLayout

__all__ = ["KvSlab", "LayerAddress"]


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
        shape = (layout.num_slots, num_kv_heads, layout.capacity, head_size)
        self._keys: list[npt.NDArray[np.float32]] = [
            np.zeros(shape, np.float32) for _ in range(num_layers)
        ]
        self._values: list[npt.NDArray[np.float32]] = [
            np.zeros(shape, np.float32) for _ in range(num_layers)
        ]

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
        for rows in (*self._keys, *self._values):
            rows[target, :, :num_tokens] = rows[source, :, :num_tokens]
