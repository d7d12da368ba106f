"""The memory of this machine.

Arrays take address space; the system gives memory to pages of 4 KiB when they are first written (`_reserve`).
"""

from __future__ import annotations

import mmap
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from worker.engine.prefix import BLOCK_TOKENS
from worker.runtime.memory import available_bytes, forget_pages

__all__ = ["HostMemory", "HostPlane"]

NO_HUGE_PAGES: Final = getattr(mmap, "MADV_NOHUGEPAGE", None)


@final
class HostMemory:
    """Implements `worker.runtime.devices.memory.KvMemory`."""

    device_type = "cpu"
    device_id = 0
    label = ""
    is_lazy = True

    def available_bytes(self) -> int | None:
        """See `KvMemory`."""
        return available_bytes()

    def plane(self, shape: tuple[int, ...], num_blocks: int, dtype: type[np.generic]) -> HostPlane:
        """See `KvMemory`."""
        return HostPlane(shape, num_blocks, dtype)

    def open_binding(self, session: ort.InferenceSession) -> ort.IOBinding:
        """See `KvMemory`."""
        return session.io_binding()

    def run(self, session: ort.InferenceSession, binding: ort.IOBinding) -> None:
        """See `KvMemory`."""
        session.run_with_iobinding(binding)


@final
class HostPlane:
    """Implements `worker.runtime.devices.memory.Plane` with NumPy."""

    def __init__(self, shape: tuple[int, ...], num_blocks: int, dtype: type[np.generic]) -> None:
        self._memory = _reserve(shape, dtype)
        """Of rows."""
        self.rows: npt.NDArray[Any] = np.frombuffer(self._memory, dtype).reshape(shape)
        block = (num_blocks, shape[1], BLOCK_TOKENS, *shape[3:])
        self.blocks: npt.NDArray[Any] = np.zeros(block, dtype)
        if num_blocks:
            self.blocks = np.frombuffer(_reserve(block, dtype), dtype).reshape(block)

    def address(self, slot: int) -> int:
        """See `Plane`."""
        return int(self.rows[slot:].ctypes.data)

    def copy(self, source: int, target: int, end: int) -> None:
        """See `Plane`."""
        self.rows[target, :, :end] = self.rows[source, :, :end]

    def load(self, slot: int, blocks: tuple[int, ...]) -> None:
        """See `Plane`."""
        target = self.rows[slot, :, : len(blocks) * BLOCK_TOKENS]
        target = target.reshape(len(target), -1, BLOCK_TOKENS, *target.shape[2:])
        for index, block in enumerate(blocks):
            target[:, index] = self.blocks[block]

    def save(self, slot: int, start: int, block: int) -> None:
        """See `Plane`."""
        self.blocks[block] = self.rows[slot, :, start : start + BLOCK_TOKENS]

    def trim(self, slot: int, kept: int) -> None:
        """Gives whole pages back to the system; they read as zeros then."""
        row, head, position = self.rows.strides[:3]
        first = slot * row
        if not kept:  # one call for all heads
            forget_pages(self._memory, first, first + row)
            return
        for begin in range(first, first + row, head):
            forget_pages(self._memory, begin + kept * position, begin + head)

    def clear(self) -> None:
        """Rows become zeros and give their memory back."""
        forget_pages(self._memory)


def _reserve(shape: tuple[int, ...], dtype: type[np.generic]) -> mmap.mmap:
    """Zeros that take memory page by page, as they are written.

    Not by NumPy: it asks for huge pages, and with those a row of 2 MiB or less is there with its first token.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if NO_HUGE_PAGES is not None:
        memory.madvise(NO_HUGE_PAGES)
    return memory
