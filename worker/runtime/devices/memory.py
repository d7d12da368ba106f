"""The seam between keys and values and the memory that they are in.

`worker.runtime.kv_slab` knows which positions go where; a `Plane` moves them; a `KvMemory` makes planes, and runs
graphs on what they hold. Nobody else has a pointer.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np
import onnxruntime as ort

__all__ = ["KvMemory", "Plane"]


class Plane(Protocol):
    """Rows [slots, kv_heads, capacity, …] of one layer's keys, or values, or scales, and the blocks that belong to
    them: [blocks, kv_heads, BLOCK_TOKENS, …]. Zeros at first; addresses never change. Callers have checked all numbers.
    """

    def address(self, slot: int) -> int:
        """Where the row of `slot` begins; the rows of later slots follow without gaps."""
        ...

    def copy(self, source: int, target: int, end: int) -> None:
        """Positions [0, end) of one row to another."""
        ...

    def load(self, slot: int, blocks: tuple[int, ...]) -> None:
        """Blocks, one after another, to the beginning of a row."""
        ...

    def save(self, slot: int, start: int, block: int) -> None:
        """Positions [start, start + BLOCK_TOKENS) of a row to a block."""
        ...

    def trim(self, slot: int, kept: int) -> None:
        """Nobody will read positions from `kept` on of a row again."""
        ...

    def clear(self) -> None:
        """Nobody will read any row again; blocks stay."""
        ...


PlaneT_co = TypeVar("PlaneT_co", bound=Plane, covariant=True)


class KvMemory(Protocol[PlaneT_co]):
    """One memory that holds keys and values."""

    @property
    def device_type(self) -> str:
        """ONNX Runtime's name for it, to bind addresses with."""
        ...

    @property
    def device_id(self) -> int: ...

    @property
    def label(self) -> str:
        """What decides the last bit of a result beside the processor of this machine; empty when that is all."""
        ...

    @property
    def is_lazy(self) -> bool:
        """Whether planes take memory as they are written, not all of it at once."""
        ...

    def available_bytes(self) -> int | None:
        """What is free now; None where nothing says it."""
        ...

    def plane(self, shape: tuple[int, ...], num_blocks: int, dtype: type[np.generic]) -> PlaneT_co:
        """Rows of that shape, and so many blocks. Raises MemoryError, OSError, OverflowError or ValueError when there
        is no room.
        """
        ...

    def open_binding(self, session: ort.InferenceSession) -> ort.IOBinding:
        """For inputs and outputs of runs of `session`.

        ONNX Runtime copies an input that it wants on a device *when it is bound*: what changes from run to run is bound
        anew for each.
        """
        ...

    def run(self, session: ort.InferenceSession, binding: ort.IOBinding) -> None:
        """After every copy so far; what the run wrote is there when it returns."""
        ...
