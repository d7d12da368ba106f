"""A device without a GPU: memory that the system lets nobody touch except its own copies and ONNX Runtime's runs.

Between those its pages are forbidden (`mprotect`), so a line of Python or NumPy that reads or writes keys and values as
if they were this machine's ends the test process at once. Bindings behave as ONNX Runtime's do with a device: what is
bound from this machine's memory is copied when it is bound, and what is written there later is not seen.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnxruntime as ort

from worker.runtime.devices.device import DeviceMemory, Pitched
from worker.runtime.providers.spec import ProviderSpec

__all__ = ["FencedDevice", "as_host", "fenced"]

NOBODY, ANYBODY = 0, mmap.PROT_READ | mmap.PROT_WRITE
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class FencedDevice:
    """Implements `worker.runtime.devices.device.Device`. Copies wait until somebody waits for them."""

    kind = "fenced"
    id = 3
    label = "toy"

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes = num_bytes
        self.num_copies = 0
        self._at_work = 0
        self._taken: dict[int, mmap.mmap] = {}
        self._pending: list[tuple[Pitched, Pitched, int, int]] = []

    @property
    def num_taken(self) -> int:
        """Bytes."""
        return sum(map(len, self._taken.values()))

    def free_bytes(self) -> int:
        return self.num_bytes - self.num_taken

    def allocate(self, num_bytes: int) -> int:
        if num_bytes > self.free_bytes():
            raise MemoryError(f"{num_bytes} bytes of {self.free_bytes()}")
        memory = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self._taken[address] = memory
        self._protect(address, NOBODY)
        return address

    def free(self, address: int) -> None:
        self._protect(address, ANYBODY)
        del self._taken[address]

    def copy(self, target: Pitched, source: Pitched, width: int, height: int) -> None:
        assert width <= target.pitch
        assert width <= source.pitch
        for place in (target, source):
            self._check(place.address, place.pitch * (height - 1) + width)
        self.num_copies += 1
        self._pending.append((target, source, width, height))

    def wait(self) -> None:
        with self.open():
            for target, source, width, height in self._pending:
                for line in range(height):
                    ctypes.memmove(
                        target.address + line * target.pitch,
                        source.address + line * source.pitch,
                        width,
                    )
        self._pending.clear()

    def _check(self, address: int, size: int) -> None:
        """That the whole of it was allocated at once."""
        assert any(
            begin <= address and address + size <= begin + len(memory)
            for begin, memory in self._taken.items()
        )

    @contextmanager
    def open(self) -> Iterator[None]:
        """While the device itself is at work."""
        self._at_work += 1
        for address in self._taken:
            self._protect(address, ANYBODY)
        try:
            yield
        finally:
            self._at_work -= 1
            for address in self._taken if not self._at_work else ():
                self._protect(address, NOBODY)

    def _protect(self, address: int, protection: int) -> None:
        assert _libc.mprotect(address, len(self._taken[address]), protection) == 0


class FencedMemory(DeviceMemory):
    """What a real device needs no help for: ONNX Runtime's CPU takes the part of its GPU."""

    def __init__(self, device: FencedDevice) -> None:
        super().__init__(device)
        self._fenced = device

    def open_binding(self, session: ort.InferenceSession) -> ort.IOBinding:
        return _Binding(session, self)

    def run(self, session: ort.InferenceSession, binding: ort.IOBinding) -> None:
        with self._fenced.open():
            super().run(session, binding)


class _Binding(ort.IOBinding):
    """Copies what it is given from this machine's memory, and passes on what is on the device."""

    def __init__(self, session: ort.InferenceSession, memory: DeviceMemory) -> None:
        super().__init__(session)
        self._there = memory.device_type, memory.device_id
        self._copies: dict[str, Any] = {}

    def bind_input(
        self,
        name: str,
        device_type: str,
        device_id: int,
        element_type: Any,
        shape: Any,
        pointer: int,
    ) -> None:
        if device_type == "cpu":
            copy = np.empty(shape, element_type)
            ctypes.memmove(copy.ctypes.data, pointer, copy.nbytes)
            self._copies[name] = copy
            pointer = copy.ctypes.data
        else:
            assert (device_type, device_id) == self._there
        super().bind_input(name, "cpu", 0, element_type, shape, pointer)

    def bind_output(
        self,
        name: str,
        device_type: str,
        device_id: int,
        element_type: Any,
        shape: Any,
        pointer: int,
    ) -> None:
        assert (device_type, device_id) in (("cpu", 0), self._there)
        super().bind_output(name, "cpu", 0, element_type, shape, pointer)


def as_host(memory: DeviceMemory) -> DeviceMemory:
    """The same, for a device whose memory ONNX Runtime's CPU can reach."""
    memory.open_binding = lambda session: _Binding(session, memory)  # type: ignore[method-assign]
    return memory


def fenced(device: FencedDevice) -> ProviderSpec:
    """The CPU, told that keys and values are on that device."""
    return ProviderSpec(
        name="fenced",
        ort_names=("CPUExecutionProvider",),
        open_memory=lambda: FencedMemory(device),
        has_device=True,
    )
