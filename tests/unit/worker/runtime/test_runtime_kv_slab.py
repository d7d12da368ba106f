"""Where keys and values live: memory comes with what is written, and goes when nobody needs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.tiny_models import NEEDS_NATIVE, TINY_LLAMA, load_tiny
from worker.engine.ports import CacheLayout
from worker.kernels.library import Kernels
from worker.runtime.devices.host import HostMemory
from worker.runtime.kv_slab import KvSlab
from worker.runtime.self_check import generate_greedy

MIB = 1 << 20


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / MIB


def test_a_row_takes_memory_as_it_is_written_and_gives_it_back() -> None:
    """Rows of 32 MiB in keys and values of one layer; a sixteenth of one is written."""
    before = resident_mib()
    slab = KvSlab(
        CacheLayout(num_slots=8, capacity=32_768, num_blocks=4),
        HostMemory(),
        num_layers=1,
        num_kv_heads=4,
        head_size=64,
    )
    assert resident_mib() - before < 4
    rows, blocks = slab.planes[0].rows, slab.planes[0].blocks
    rows[3, :, :2048], blocks[1] = 1.0, 2.0
    written = resident_mib() - before
    assert 2 <= written < 6, "2 MiB were written"
    slab.copy(3, 0, 2048)
    assert (rows[0, :, :2048] == 1).all()
    slab.clear()
    assert resident_mib() - before < written
    assert not rows[3].any()
    assert (blocks[1] == 2).all()


def test_rows_end_with_whole_tiles() -> None:
    slab = KvSlab(
        CacheLayout(num_slots=2, capacity=33),
        HostMemory(),
        num_layers=1,
        num_kv_heads=1,
        head_size=16,
    )
    assert slab.row_shape(2) == [2, 1, 48, 16]
    slab.planes[1].rows[0] = np.arange(48)[:, None]
    slab.copy(0, 1, 33)
    assert slab.planes[1].rows[1, 0, :, 0].tolist() == [*range(48)]


@pytest.mark.parametrize("kernels", ["portable", pytest.param("native", marks=NEEDS_NATIVE)])
def test_a_model_that_rested_computes_as_before(kernels: Kernels) -> None:
    runner = load_tiny(TINY_LLAMA, kernels=kernels).runner
    first = generate_greedy(runner, [5, 6, 7, 8], max_tokens=20, eos_ids=frozenset())
    runner.rest()
    again = generate_greedy(runner, [5, 6, 7, 8], max_tokens=20, eos_ids=frozenset())
    assert again == first
