"""How much memory there is, how much of it rows take, and that a model keeps to it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import BadModel
from tests.support.manual_clock import ManualClock
from tests.support.stepped_engine import SteppedEngine, alone_on, tokens_of
from tests.support.tiny_models import NEEDS_NATIVE, TINY_LLAMA, TINY_LLAMA_INT4, load_tiny
from worker.engine.config import EngineConfig
from worker.engine.ports import CacheLayout, RowTrim
from worker.engine.request import EngineRequest
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import StopRule
from worker.kernels.library import Kernels
from worker.runtime.devices.host import HostMemory
from worker.runtime.kv_precision import FP16, FP32, INT8, KvPrecision
from worker.runtime.kv_slab import KvSlab, tokens_within
from worker.runtime.memory import available_bytes
from worker.runtime.model import load_model

MIB = 1 << 20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.fixture
def files(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    def write(texts: dict[str, str]) -> Path:
        for name, text in texts.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return write


V2 = {
    "memory.max": "1000000\n",
    "memory.current": "700000\n",
    "memory.stat": "anon 5\ninactive_file 200000\nactive_file 7\n",
}
V1 = {
    "memory/memory.limit_in_bytes": "1000000\n",
    "memory/memory.usage_in_bytes": "900000\n",
    "memory/memory.stat": "cache 5\ntotal_inactive_file 50000\n",
}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (V2, 500_000),
        (V1, 150_000),
        (V2 | {"memory.max": "max\n"}, 2_048_000),
        (V2 | {"memory.current": "5000000\n"}, 0),
        (V2 | {"memory.stat": "nothing known\n"}, 300_000),
        ({}, 2_048_000),
    ],
)
def test_the_smaller_of_machine_and_control_group_counts(
    files: Callable[[dict[str, str]], Path], texts: dict[str, str], expected: int
) -> None:
    folder = files(texts | {"meminfo": "MemTotal:  9000 kB\nMemAvailable:   2000 kB\n"})
    assert available_bytes(folder, folder / "meminfo") == expected


def test_where_nothing_says_it_it_is_not_known(tmp_path: Path) -> None:
    assert available_bytes(tmp_path, tmp_path / "meminfo") is None


@pytest.mark.parametrize("precision", [FP32, FP16, INT8], ids=lambda precision: precision.name)
def test_rows_take_no_more_than_was_counted_however_they_are_written(
    precision: KvPrecision,
) -> None:
    shape = {"num_layers": 3, "num_kv_heads": 3, "head_size": 64}
    tokens = tokens_within(24 * MIB, num_slots=5, precision=precision, **shape)
    slab = KvSlab(
        CacheLayout(num_slots=5, capacity=tokens), HostMemory(), precision=precision, **shape
    )
    rng, before = random.Random(3), resident()
    borders = sorted(rng.randrange(tokens) for _ in range(4))
    for slot, (start, end) in enumerate(zip([0, *borders], [*borders, tokens], strict=True)):
        for plane in slab._all:
            plane.rows[slot, :, : end - start] = 1
    taken = resident() - before
    assert 0.7 * 24 * MIB < taken <= 24 * MIB + MIB // 2, "and not much less"


def test_a_trimmed_row_keeps_what_it_needs_and_gives_the_rest_back() -> None:
    slab = KvSlab(
        CacheLayout(num_slots=3, capacity=32_768),
        HostMemory(),
        num_layers=1,
        num_kv_heads=4,
        head_size=64,
    )
    before = resident()
    for plane in slab.planes:
        plane.rows[:, :, :8192] = np.arange(8192)[:, None]
    full = resident() - before
    slab.trim(1, 1000)
    slab.trim(2, 0)
    kept = resident() - before
    assert kept < full * (1 + 1000 / 8192 + 0.1) / 3
    for plane in slab.planes:
        rows = plane.rows
        assert (rows[0, :, :8192, 0] == np.arange(8192)).all(), "the row before"
        assert (rows[1, :, :1000, 0] == np.arange(1000)).all()
        assert not rows[1, :, 2048:8192].any()
        assert not rows[2].any()
    with pytest.raises(AssertionError):
        slab.trim(3, 0)


@pytest.mark.parametrize(
    ("folder", "kernels"),
    [
        (TINY_LLAMA, "portable"),
        pytest.param(TINY_LLAMA_INT4, "native", marks=NEEDS_NATIVE),
    ],
    ids=["portable", "native"],
)
def test_waiting_for_memory_changes_no_token_and_no_bit_of_a_logprob(
    folder: Path, kernels: Kernels
) -> None:
    runner = load_model(
        folder, name="tiny", threads=1, rows_max=16, kv_memory_mib=2, kernels=kernels
    ).runner
    layout = runner.layout
    assert layout.tokens_max is not None
    assert layout.tokens_max < layout.num_slots * layout.capacity
    alone = alone_on(load_tiny(folder, rows_max=1, kernels=kernels).runner)
    engine, rng = SteppedEngine(runner, EngineConfig(), ManualClock()), random.Random(4)
    asked, trims = [], list[RowTrim]()
    memory = engine.loop._scheduler._memory
    trim = memory.trim
    memory.trim = lambda occupants: trims.extend(found := trim(occupants)) or found  # type: ignore[func-returns-value,method-assign]
    for _ in range(60):
        request = EngineRequest(
            prompt_ids=tuple(rng.randrange(300) for _ in range(rng.choice((3, 40, 150)))),
            sampling=SamplingParams(temperature=0.9, seed=rng.getrandbits(60), logprobs=0),
            stop=StopRule(max_tokens=rng.randint(1, layout.capacity - 150)),
        )
        if len(request.prompt_ids) + request.stop.max_tokens > layout.capacity:
            continue
        asked.append((request, engine.submit(request)))
        for _ in range(rng.randint(0, 30)):
            engine.step()
            occupants = engine.loop._scheduler._slots.occupants
            assert sum(s.num_tokens_max for s in occupants) <= layout.tokens_max
    while not engine.is_idle:
        engine.step()
    assert trims, "rows gave memory back"
    for request, stream in asked:
        assert tokens_of(engine.read(stream), 1) == alone(replace(request, salt=None))


def test_a_context_is_no_longer_than_there_is_memory_for() -> None:
    loaded = load_model(TINY_LLAMA, name="tiny", threads=1, rows_max=17, kv_memory_mib=2)
    layout = loaded.runner.layout
    assert layout.tokens_max is not None
    assert loaded.info.context_length == layout.capacity <= layout.tokens_max
    with pytest.raises(BadModel, match="kv_memory_mib"):
        load_model(TINY_LLAMA, name="tiny", threads=1, rows_max=4096, kv_memory_mib=1)
