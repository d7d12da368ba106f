"""The tiny models of tests/goldens, and how tests get at them (made by training.goldens.make)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.fenced import FencedDevice, fenced
from worker.engine.ports import Batch, PrefillChunk
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import Sequence, StopRule
from worker.kernels.library import Kernels, isas_here
from worker.runtime.kv_precision import KvPrecisionName
from worker.runtime.mode import Mode
from worker.runtime.model import LoadedModel, load_model
from worker.runtime.providers.cpu import CPU
from worker.tasks.api import ToolCall

__all__ = [
    "GOLDENS",
    "NEEDS_NATIVE",
    "TINY_FAMILIES",
    "TINY_LLAMA",
    "TINY_LLAMA_INT4",
    "TINY_LLAMA_INT4_BLOCK64",
    "TINY_OPTIMUM",
    "TINY_QWEN2",
    "Message",
    "copy_model",
    "edit_json",
    "golden_cases",
    "load_tiny",
    "make_sequence",
    "prefill",
]

GOLDENS: Final = Path(__file__).resolve().parents[1] / "goldens"
TINY_LLAMA: Final = GOLDENS / "tiny-llama" / "fp32"
TINY_LLAMA_INT4: Final = GOLDENS / "tiny-llama" / "int4"
TINY_LLAMA_INT4_BLOCK64: Final = GOLDENS / "tiny-llama" / "int4-block64"
TINY_QWEN2: Final = GOLDENS / "tiny-qwen2" / "fp32"
"""Context of 256 tokens and 300 tokens in the vocabulary, all of them."""
TINY_FAMILIES: Final = tuple(
    GOLDENS / f"tiny-{name}" / "fp32"
    for name in (
        "llama",
        "qwen2",
        "qwen3",
        "mistral",
        "phi3",
        "gemma2",
        "gemma3",
        "smollm3",
        "granite",
    )
)
"""One of each family that is served, as the onnxruntime-genai builder exports it."""
TINY_OPTIMUM: Final = tuple(GOLDENS / f"tiny-optimum-{name}" / "fp32" for name in ("llama", "gpt2"))
"""Exports of Optimum, whose caches grow: heads that share keys and none that do, turned positions and learned ones."""

DEVICE_BYTES: Final = 64 << 20
"""Of the device behind `load_tiny`."""

NEEDS_NATIVE: Final = pytest.mark.skipif(
    not isas_here(), reason="needs the compiled operators and a processor with AVX2"
)


@dataclass(frozen=True)
class Message:
    """A chat message as the tokenizer wants it."""

    role: str
    content: str
    name: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


@cache
def load_tiny(
    folder: Path,
    *,
    rows_max: int = 6,
    context_max: int = 0,
    prefix_cache_mib: int = 0,
    prefill_int8: bool = False,
    mode: Mode = "exact",
    kernels: Kernels = "portable",
    kv_precision: KvPrecisionName = "auto",
    on_device: bool = False,
) -> LoadedModel:
    """One loaded model per test process and shape; tests leave nothing behind in it but stale rows.

    With `on_device` keys and values are where no Python can reach them (`tests.support.fenced`).
    """
    return load_model(
        folder,
        name="tiny",
        threads=1,
        rows_max=rows_max,
        context_max=context_max,
        prefix_cache_mib=prefix_cache_mib,
        prefill_int8=prefill_int8,
        mode=mode,
        kernels=kernels,
        kv_precision=kv_precision,
        provider=fenced(FencedDevice(DEVICE_BYTES)) if on_device else CPU,
        kv_memory_mib=DEVICE_BYTES >> 21 if on_device else 0,
    )


@cache
def golden_cases(model: str) -> list[dict[str, Any]]:
    """What transformers answers: prompt or messages, prompt_ids, greedy_ids, first_logits, last_logits."""
    cases: list[dict[str, Any]] = json.loads((GOLDENS / model / "golden.json").read_text("utf-8"))[
        "cases"
    ]
    return cases


def copy_model(source: Path, target: Path) -> Path:
    """A copy that a test may break."""
    shutil.copytree(source, target)
    return target


def edit_json(path: Path, changes: Mapping[str, Any]) -> None:
    """Sets dotted keys: {"model.decoder.head_size": 3}; None deletes."""
    data = json.loads(path.read_text("utf-8"))
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        place = data
        for parent in parents:
            place = place[parent]
        if value is None:
            del place[last]
        else:
            place[last] = value
    path.write_text(json.dumps(data), "utf-8")


_ids: Final = iter(range(1, 1 << 62))


def make_sequence(
    prompt_ids: list[int], *, slot: int | None = 0, sampling: SamplingParams | None = None, choice: int = 0,
    min_tokens: int = 0, eos_ids: frozenset[int] = frozenset(), generated_ids: list[int] | None = None,
) -> Sequence:  # fmt: skip
    """A sequence with good defaults and an id of its own."""
    return Sequence(
        id=next(_ids),
        choice=choice,
        prompt_ids=tuple(prompt_ids),
        sampling=sampling or SamplingParams(),
        stop=StopRule(max_tokens=1 << 20, min_tokens=min_tokens, eos_ids=eos_ids),
        slot=slot,
        generated_ids=list(generated_ids or ()),
    )


def prefill(sequence: Sequence, *ends: int) -> Iterator[Batch]:
    """The prompt in chunks that end at `ends` and at its end, one batch each."""
    borders = [0, *ends, sequence.num_prompt_tokens]
    for start, end in pairwise(borders):
        yield Batch(prefill=(PrefillChunk(sequence=sequence, start=start, end=end),))
