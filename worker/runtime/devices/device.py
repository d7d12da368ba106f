"""A device's own memory: planes as addresses, moved by the device's copies alone.

All arithmetic is here, and tested on a device that is a fenced part of this machine's memory; what a real device adds
(`worker.runtime.devices.cuda`) is a call for each method of `Device`.

A row, a block: `kv_heads` stretches of positions, at a fixed distance from each other (`pitch`), so any copy between
them is one copy of a rectangle of bytes.
"""

from __future__ import annotations

import math
import weakref
from typing import NamedTuple, Protocol

import numpy as np
import onnxruntime as ort

from worker.engine.prefix import BLOCK_TOKENS

__all__ = ["Device", "DeviceMemory", "DevicePlane", "Pitched"]


class Pitched(NamedTuple):
    """Where a rectangle of bytes begins, and how far its lines are apart."""

    address: int
    pitch: int


class Device(Protocol):
    """What a device must be able to do. Calls come from any one thread at a time."""

    @property
    def kind(self) -> str:
        """ONNX Runtime's name for its memory."""
        ...

    @property
    def id(self) -> int: ...

    @property
    def label(self) -> str:
        """Its make, as far as results depend on it."""
        ...

    def free_bytes(self) -> int: ...

    def allocate(self, num_bytes: int) -> int:
        """The address of that many zeros, taken at once. Raises MemoryError."""
        ...

    def free(self, address: int) -> None:
        """Gives back what `allocate` gave."""
        ...

    def copy(self, target: Pitched, source: Pitched, width: int, height: int) -> None:
        """`height` lines of `width` bytes; may return before they are copied, in the order of the calls."""
        ...

    def wait(self) -> None:
        """Until every copy is done."""
        ...


class DeviceMemory:
    """Implements `worker.runtime.devices.memory.KvMemory`."""

    is_lazy = False

    def __init__(self, device: Device) -> None:
        self._device = device
        self.device_type = device.kind
        self.device_id = device.id
        self.label = device.label

    def __repr__(self) -> str:
        return f"<DeviceMemory {self.device_type}:{self.device_id} {self.label}>"

    def available_bytes(self) -> int | None:
        """See `KvMemory`."""
        return self._device.free_bytes()

    def plane(
        self, shape: tuple[int, ...], num_blocks: int, dtype: type[np.generic]
    ) -> DevicePlane:
        """See `KvMemory`."""
        return DevicePlane(self._device, shape, num_blocks, dtype)

    def open_binding(self, session: ort.InferenceSession) -> ort.IOBinding:
        """See `KvMemory`."""
        return session.io_binding()

    def run(self, session: ort.InferenceSession, binding: ort.IOBinding) -> None:
        """See `KvMemory`. ONNX Runtime has streams of its own, which do not wait for our copies."""
        self._device.wait()
        binding.synchronize_inputs()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()


class DevicePlane:
    """Implements `worker.runtime.devices.memory.Plane`; gives its memory back when nobody refers to it any more."""

    def __init__(
        self, device: Device, shape: tuple[int, ...], num_blocks: int, dtype: type[np.generic]
    ) -> None:
        slots, self._heads, capacity, *rest = shape
        self._device = device
        self._position = math.prod(rest) * np.dtype(dtype).itemsize
        """Bytes of one position of one head."""
        self._row_pitch = capacity * self._position
        self._block_pitch = BLOCK_TOKENS * self._position
        self._rows = self._allocate(slots * self._heads * self._row_pitch)
        self._blocks = self._allocate(num_blocks * self._heads * self._block_pitch)

    def address(self, slot: int) -> int:
        """See `Plane`."""
        return self._rows + slot * self._heads * self._row_pitch

    def copy(self, source: int, target: int, end: int) -> None:
        """See `Plane`."""
        if end:
            self._move(self._in_row(target, 0), self._in_row(source, 0), end)

    def load(self, slot: int, blocks: tuple[int, ...]) -> None:
        """See `Plane`."""
        for index, block in enumerate(blocks):
            self._move(
                self._in_row(slot, index * BLOCK_TOKENS), self._in_block(block), BLOCK_TOKENS
            )

    def save(self, slot: int, start: int, block: int) -> None:
        """See `Plane`."""
        self._move(self._in_block(block), self._in_row(slot, start), BLOCK_TOKENS)

    def trim(self, slot: int, kept: int) -> None:
        """Nothing: memory was taken at once and stays."""

    def clear(self) -> None:
        """Nothing, for the same reason."""

    def _allocate(self, num_bytes: int) -> int:
        if not num_bytes:
            return 0
        address = self._device.allocate(num_bytes)
        weakref.finalize(self, self._device.free, address)
        return address

    def _in_row(self, slot: int, position: int) -> Pitched:
        return Pitched(self.address(slot) + position * self._position, self._row_pitch)

    def _in_block(self, block: int) -> Pitched:
        return Pitched(self._blocks + block * self._heads * self._block_pitch, self._block_pitch)

    def _move(self, target: Pitched, source: Pitched, positions: int) -> None:
        self._device.copy(target, source, positions * self._position, self._heads)
