"""On a GPU: the CUDA runner beside the CPU runner. `pytest -m gpu` on a machine that has one; nobody has done it yet.

What the CPU can prove of this path is in `test_runtime_devices`, `test_runtime_half` and `test_runtime_providers`.
"""

from __future__ import annotations

import gc
import random
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from common.errors import BadModel
from tests.support.half import in_half
from tests.support.tiny_models import (
    TINY_LLAMA,
    TINY_LLAMA_INT4,
    TINY_QWEN2,
    load_tiny,
    make_sequence,
    prefill,
)
from worker.engine.ports import Batch, SlotCopy
from worker.engine.sequence import Sequence
from worker.runtime.model import LoadedModel, load_model
from worker.runtime.providers.placement import check_offered
from worker.runtime.providers.registry import provider_named
from worker.runtime.providers.spec import DeviceOptions

pytestmark = pytest.mark.gpu

Logits = npt.NDArray[np.float32]
ERROR_MAX = 0.02
"""Root mean square of the difference over the standard deviation: two ways to round to fp16."""
COMPANY_MAX = 0.02
"""The same between a row alone and in company."""
FAMILIES = [TINY_LLAMA, TINY_QWEN2, TINY_LLAMA_INT4]


@pytest.fixture(scope="module", autouse=True)
def cuda() -> None:
    spec = provider_named("cuda")
    try:
        check_offered(spec)
        spec.open_memory()
    except BadModel as error:
        pytest.skip(f"no GPU: {error.message}")


def on_gpu(folder: Path, **options: Any) -> LoadedModel:
    settings = {"name": "gpu", "threads": 1, "rows_max": 6, "mode": "fast", "kv_memory_mib": 64}
    return load_model(in_half(folder), provider=provider_named("cuda"), **{**settings, **options})


def logits_of(model: LoadedModel, batch: Batch) -> dict[int, Logits]:
    return {
        sequence.id: logits[row].copy()
        for sequences, logits, _ in model.runner.compute(batch)
        for row, sequence in enumerate(sequences)
    }


def prefilled(
    model: LoadedModel, prompt: list[int], slot: int, *ends: int
) -> tuple[Sequence, Logits]:
    """The sequence with its first token, and the logits that it was taken from."""
    sequence, rows = make_sequence(prompt, slot=slot), []
    for batch in prefill(sequence, *ends):
        rows += logits_of(model, batch).values()
    sequence.num_computed_tokens = sequence.num_tokens
    sequence.generated_ids.append(int(rows[-1].argmax()))
    return sequence, rows[-1]


def error(found: Logits, expected: Logits) -> float:
    return float(np.sqrt(np.square(found - expected).mean()) / expected.std())


@pytest.mark.parametrize(
    "folder", FAMILIES, ids=lambda folder: f"{folder.parent.name}-{folder.name}"
)
def test_the_gpu_computes_what_the_cpu_computes(folder: Path) -> None:
    """Prompts whole, in chunks and in another slot; then tokens one by one, the same for both."""
    cpu, gpu, rng = load_tiny(in_half(folder)), on_gpu(folder), random.Random(5)
    for length, ends in ((1, ()), (17, ()), (60, (20, 41)), (200, (64, 128))):
        prompt = [rng.randrange(300) for _ in range(length)]
        (one, expected), (other, found) = (
            prefilled(model, prompt, 0, *ends) for model in (cpu, gpu)
        )
        assert error(found, expected) < ERROR_MAX
        for _ in range(20):
            other.generated_ids[-1] = one.generated_ids[-1] = rng.randrange(300)
            (expected,) = logits_of(cpu, Batch(decode=(one,))).values()
            (found,) = logits_of(gpu, Batch(decode=(other,))).values()
            assert error(found, expected) < ERROR_MAX
            for sequence in (one, other):
                sequence.num_computed_tokens = sequence.num_tokens
                sequence.generated_ids.append(0)


def test_rows_that_move_stay_what_they_were() -> None:
    model = on_gpu(TINY_LLAMA)
    row, _ = prefilled(model, [*range(7, 60)], 3)
    row.slot = 0
    (moved,) = logits_of(model, Batch(copies=(SlotCopy(3, 0, 53),), decode=(row,))).values()
    stayed, _ = prefilled(model, [*range(7, 60)], 0)
    (expected,) = logits_of(model, Batch(decode=(stayed,))).values()
    assert moved.tobytes() == expected.tobytes()


def test_how_much_company_changes(record_property: Any) -> None:
    """Measured, not promised: that is why the mode `exact` is refused."""
    model, rng = on_gpu(TINY_LLAMA), random.Random(9)
    prompts = [[rng.randrange(300) for _ in range(rng.randrange(2, 90))] for _ in range(6)]
    alone = []
    for prompt in prompts:
        row, _ = prefilled(model, prompt, 0)
        alone += logits_of(model, Batch(decode=(row,))).values()
    rows = [prefilled(model, prompt, slot)[0] for slot, prompt in enumerate(prompts)]
    together = logits_of(model, Batch(decode=tuple(rows)))
    errors = [error(together[row.id], expected) for row, expected in zip(rows, alone, strict=True)]
    record_property("error_of_company", max(errors))
    assert max(errors) < COMPANY_MAX


def test_memory_is_given_back() -> None:
    memory = provider_named("cuda").open_memory()
    model = on_gpu(TINY_LLAMA, kv_memory_mib=64, rows_max=64, prefix_cache_mib=64)
    taken = memory.available_bytes()
    del model
    gc.collect()
    given_back, before = memory.available_bytes(), taken
    assert given_back is not None
    assert before is not None
    assert given_back - before > 64 << 20


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadModel, match=r"worker\.device_id is 255"):
        provider_named("cuda", DeviceOptions(device_id=255)).open_memory()


def test_a_graph_in_fp32_is_refused() -> None:
    with pytest.raises(BadModel, match="export"):
        load_model(TINY_LLAMA, name="t", threads=1, mode="fast", provider=provider_named("cuda"))
