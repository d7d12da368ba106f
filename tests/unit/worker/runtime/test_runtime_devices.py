"""Keys and values in a device's memory: nobody reaches past the seam, it has a size, and it is given back."""

from __future__ import annotations

import ctypes
import gc
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from common.errors import BadModel, Reason
from tests.support.fenced import FencedDevice, fenced
from tests.support.half import in_half
from tests.support.tiny_models import TINY_LLAMA, TINY_OPTIMUM, load_tiny
from worker.engine.ports import CacheLayout
from worker.engine.prefix import BLOCK_TOKENS
from worker.runtime.devices.device import DeviceMemory
from worker.runtime.kv_slab import KvSlab
from worker.runtime.model import LoadedModel, load_model
from worker.runtime.phased import PhasedForward
from worker.runtime.self_check import generate_greedy

MIB = 1 << 20
PROMPT = [5, 6, 7, 8, 9, 10]


def on(device: FencedDevice, **options: Any) -> LoadedModel:
    settings = {"name": "tiny", "threads": 1, "rows_max": 4, "mode": "fast"}
    return load_model(in_half(TINY_LLAMA), **{**settings, "provider": fenced(device), **options})


def greedy(model: LoadedModel) -> list[int]:
    return generate_greedy(model.runner, PROMPT, max_tokens=30, eos_ids=frozenset())


def test_a_device_answers_as_the_host_does() -> None:
    model = on(FencedDevice(64 * MIB))
    assert "/fenced-toy/fast/fp16-kv-fp16/" in model.info.fingerprint
    answer = greedy(model)
    assert answer == greedy(load_tiny(in_half(TINY_LLAMA)))
    model.runner.rest()
    assert greedy(model) == answer


def test_who_reads_past_the_seam_does_not_live() -> None:
    """The negative control of every test on that device."""
    code = (
        "import ctypes, resource; from tests.support.fenced import FencedDevice as Device;"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0));"
        "device = Device(1 << 20); at = device.allocate(4096);\n"
        "with device.open(): ctypes.string_at(at, 8)\n"
        "ctypes.string_at(at, 8)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == -signal.SIGSEGV, done.stderr


def test_who_keeps_an_input_bound_computes_with_the_past(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ONNX Runtime does with a device, and not with the CPU: there nobody would notice."""
    host, device = load_tiny(in_half(TINY_LLAMA)), on(FencedDevice(64 * MIB))
    right, bind, bound = greedy(host), PhasedForward._bind_tokens, set()

    def bind_once(self: PhasedForward, binding: Any, ids: Any, shape: list[int]) -> None:
        if (id(binding), *shape) not in bound:
            bound.add((id(binding), *shape))
            bind(self, binding, ids, shape)

    monkeypatch.setattr(PhasedForward, "_bind_tokens", bind_once)
    assert greedy(host) == right
    assert greedy(device) != right


def test_rows_and_blocks_go_where_they_should() -> None:
    """Positions marked with their number; 2 heads of 16 numbers, capacity 96, which is 3 blocks."""
    device = FencedDevice(MIB)
    layout = CacheLayout(num_slots=3, capacity=3 * BLOCK_TOKENS, num_blocks=2)
    slab = KvSlab(layout, DeviceMemory(device), num_layers=1, num_kv_heads=2, head_size=16)
    arrays = {
        plane: _Peephole(device, plane.address(0), slab.row_shape(3)) for plane in slab.planes
    }
    for number, array in enumerate(arrays.values()):
        array.write(1, [1000 * number + position for position in range(96)])
    slab.save(1, 32, 0)
    slab.save(1, 64, 1)
    slab.load(2, (1, 0))
    slab.copy(1, 0, 33)  # whole tiles: 48
    slab.copy(1, 1, 0)
    for number, array in enumerate(arrays.values()):
        marks = [1000 * number + position for position in range(96)]
        assert array.read(0) == marks[:48] + [0] * 48
        assert array.read(1) == marks
        assert array.read(2) == marks[64:] + marks[32:64] + [0] * 32


class _Peephole:
    """The first number of every position of a plane's rows, the same for each head."""

    def __init__(self, device: FencedDevice, address: int, shape: list[int]) -> None:
        self._device, self._address, self._shape = device, address, shape

    def _rows(self) -> Any:
        size = 4 * int(np.prod(self._shape))
        buffer = (ctypes.c_char * size).from_address(self._address)
        return np.frombuffer(buffer, np.float32).reshape(self._shape)

    def write(self, slot: int, marks: list[int]) -> None:
        with self._device.open():
            self._rows()[slot, :, :, 0] = marks

    def read(self, slot: int) -> list[int]:
        self._device.wait()
        with self._device.open():
            first, second = self._rows()[slot, :, :, 0]
            assert (first == second).all()
            return [int(mark) for mark in first]


def test_what_the_device_has_bounds_the_context() -> None:
    """A position of this model takes 384 bytes in fp16; four rows in whole tiles of 16, and a fifth is left over."""
    device = FencedDevice(MIB // 4)
    model = on(device)
    assert model.info.context_length == MIB // 4 * 8 // 10 // (4 * 384 * 16) * 16 == 128
    assert device.num_taken == 4 * 128 * 384
    assert model.runner.layout.num_tokens == 4 * 128, "all rows may be full"
    assert on(FencedDevice(MIB), kv_memory_mib=1).info.context_length == 256


def test_a_device_without_room() -> None:
    for device, options in ((FencedDevice(1000), {}), (FencedDevice(1000), {"kv_memory_mib": 1})):
        with pytest.raises(BadModel, match="memory"):
            on(device, **options)


def test_memory_is_given_back() -> None:
    device = FencedDevice(64 * MIB)
    model = on(device, prefix_cache_mib=1)
    assert device.num_taken > MIB
    del model
    gc.collect()
    assert device.num_taken == 0


@pytest.mark.parametrize(
    ("folder", "options", "told"),
    [
        (TINY_LLAMA, {}, "has no attention in fp32; export"),
        (TINY_OPTIMUM[0], {}, "a past that grows"),
        (TINY_LLAMA, {"mode": "exact"}, "set it to fast"),
        (TINY_LLAMA, {"kernels": "native"}, "compute on the CPU; set it to auto"),
    ],
    ids=["fp32", "growing", "exact", "our operators"],
)
def test_what_no_device_serves(folder: Any, options: dict[str, Any], told: str) -> None:
    device = FencedDevice(64 * MIB)
    with pytest.raises(BadModel, match=told) as caught:
        load_model(
            folder,
            **{"name": "t", "threads": 1, "mode": "fast", "provider": fenced(device), **options},
        )
    assert caught.value.reason is Reason.MODEL_GRAPH_UNSUPPORTED
    assert device.num_taken == 0


def test_a_largest_chunk_that_does_not_run_is_told_at_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = DeviceMemory.run

    def limited(self: DeviceMemory, session: Any, binding: Any) -> None:
        if binding._copies["input_ids"].size > 100:
            raise RuntimeError("Failed to allocate memory")
        run(self, session, binding)

    monkeypatch.setattr(DeviceMemory, "run", limited)
    with pytest.raises(BadModel, match=r"a chunk of 200 tokens .* lower chunk_tokens_max"):
        on(FencedDevice(64 * MIB), chunk_tokens_max=200)
    on(FencedDevice(64 * MIB), chunk_tokens_max=20)
