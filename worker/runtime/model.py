"""A model folder, ready to serve: read, checked, loaded, warmed up, and its golden prompt answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.clock import SystemClock
from common.errors import BadModel, Reason
from worker.engine.config import EngineConfig
from worker.engine.golden import GoldenQuestion
from worker.engine.ports import CacheLayout
from worker.kernels.library import VERSION, Kernels
from worker.runtime.artifacts import read_artifact
from worker.runtime.calibration import rows_for_many
from worker.runtime.fingerprint import fingerprint, precision_of
from worker.runtime.huge_pages import collapse_pages, huge_bytes
from worker.runtime.kv_precision import FP16, KvPrecisionName
from worker.runtime.kv_slab import block_bytes, capacity_within, tokens_within
from worker.runtime.memory import return_free_memory
from worker.runtime.mode import Mode
from worker.runtime.models.registry import family_of
from worker.runtime.phased import PhasedForward
from worker.runtime.providers.cpu import CPU
from worker.runtime.providers.spec import ProviderSpec
from worker.runtime.runner import OnnxRunner
from worker.runtime.self_check import (
    check_golden,
    check_graph,
    check_largest_chunk,
    golden_question,
)
from worker.runtime.session import Graph, open_graph
from worker.runtime.threads import available_cores
from worker.runtime.tokenizer import Tokenizer, open_tokenizer

__all__ = ["LoadedModel", "ModelInfo", "Progress", "load_model"]

KV_SHARE: Final = 0.8
"""Of the memory that is left once the weights are there; the rest is for buffers, requests and answers."""

Progress = Callable[[str, dict[str, object]], None]
"""Called with an event name and its fields when a stage is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What others need to know of a loaded model."""

    name: str
    """Name that requests use."""
    revision: str
    """Content hash of the model folder, hex."""
    context_length: int
    """Most tokens of prompt and completion together: the model's own limit or `context_max`, the smaller one."""
    vocab_size: int
    """Valid token ids are below it."""
    eos_ids: frozenset[int]
    """Tokens by which the model says that it is done."""
    fingerprint: str
    """Runtime version, provider, precision, instruction set, threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """Lives as long as the process: ONNX Runtime does not give memory back."""

    info: ModelInfo
    tokenizer: Tokenizer
    chat_template: str | None
    """Jinja source; None when the model takes plain text only."""
    runner: OnnxRunner
    question: GoldenQuestion
    """What probes ask, with the answer of the warm model."""


def load_model(
    folder: Path,
    *,
    name: str,
    threads: int = 0,
    rows_max: int = 8,
    context_max: int = 0,
    prefix_cache_mib: int = 0,
    drafted_max: int = 0,
    kv_memory_mib: int = 0,
    prefill_int8: bool = False,
    mode: Mode = "exact",
    kernels: Kernels = "auto",
    kv_precision: KvPrecisionName = "auto",
    provider: ProviderSpec = CPU,
    chunk_tokens_max: int = EngineConfig().chunk_tokens_max,
    progress: Progress | None = None,
) -> LoadedModel:
    """Loads `folder` for up to `rows_max` sequences at once; blocks for seconds, computes on `threads` threads.

    `threads` 0 takes every core that affinity and control group allow; `context_max` 0 takes the model's own limit;
    `prefix_cache_mib` bounds the memory that keeps beginnings of prompts, 0 keeps none; `kv_memory_mib` that of keys
    and values of requests, 0 takes most of what is left once the weights are there; `drafted_max` says how many tokens
    of drafts a step may verify, which only our own operators do; `prefill_int8` computes prompts with 8-bit integers
    where the weights are quantised (`worker.runtime.graphs.row_int8`); `kernels` says whose operators compute, and ours
    need no second form of the weights; `kv_precision` how keys and values are kept; `provider` where all of it is;
    `chunk_tokens_max` how many tokens of a prompt a step may compute, which a device must have room for.
    Raises `BadModel` with the reason and a message that names the file at fault.
    """
    say = progress or (lambda event, fields: None)
    if rows_max < 1 or min(threads, context_max, prefix_cache_mib, kv_memory_mib) < 0:
        raise ValueError(
            f"rows_max {rows_max}, threads {threads}, context_max {context_max}, "
            f"prefix_cache_mib {prefix_cache_mib}, kv_memory_mib {kv_memory_mib}"
        )
    threads = threads or available_cores()

    artifact = read_artifact(folder)
    say("model.read", {"folder": str(folder), "revision": artifact.revision})
    config = artifact.config.model
    family = family_of(config.type)
    tokenizer = open_tokenizer(artifact)
    graph = open_graph(
        artifact,
        family,
        provider,
        threads,
        mode=mode,
        prefill_int8=prefill_int8,
        kernels=kernels,
        kv_precision=kv_precision,
    )
    return_free_memory()  # loading took twice what is kept
    collapse_pages()
    say(
        "model.loaded",
        {
            "family": family.name,
            "provider": provider.name,
            "threads": threads,
            "kernels": graph.isa or "portable",
            "huge_pages_mib": huge_bytes() >> 20,
        },
    )

    capacity = min(config.context_length, context_max or config.context_length)
    block = block_bytes(
        num_layers=graph.num_layers,
        num_kv_heads=graph.num_kv_heads,
        head_size=graph.head_size,
        precision=graph.kv,
    )
    room = _room(graph, rows_max, kv_memory_mib=kv_memory_mib, prefix_cache_mib=prefix_cache_mib)
    if room is not None:
        capacity = min(capacity, room)
        if not capacity:
            raise BadModel(
                f"{artifact.graph.name}: memory for keys and values holds no token in {rows_max} rows; raise "
                "kv_memory_mib, or lower rows_max or prefix_cache_mib",
                reason=Reason.MODEL_FILE_INVALID,
            )
    layout = CacheLayout(
        num_slots=rows_max,
        capacity=capacity,
        tokens_max=room if graph.memory.is_lazy else None,
        num_blocks=(prefix_cache_mib << 20) // block,
        keeps_decoded=graph.is_native,
        num_drafted=drafted_max if graph.is_native else 0,
    )
    try:
        runner = OnnxRunner(graph, layout)
    except (
        MemoryError,
        OSError,
        OverflowError,
        ValueError,
    ) as error:  # too much now, or for any address
        raise BadModel(
            f"{artifact.graph.name}: no memory for {rows_max} rows of {capacity} tokens; lower rows_max or context_max",
            reason=Reason.MODEL_FILE_INVALID,
        ) from error
    check_graph(runner, config.vocab_size)
    if provider.has_device:
        check_largest_chunk(runner, chunk_tokens_max)
    say("model.warm", {"rows": rows_max, "capacity": capacity, "tokens": layout.num_tokens})
    if artifact.golden is not None:
        check_golden(runner, tokenizer, artifact.golden, config.eos_ids)
        say("model.golden", {"answer": artifact.golden.text[:80]})
    if mode == "fast" and isinstance(runner.forward, PhasedForward) and graph.is_int8:
        runner.forward.many_from = rows_for_many(runner.forward, SystemClock())
        say("model.calibrated", {"int8_from_rows": runner.forward.many_from})
    question = golden_question(runner, tokenizer, artifact.golden, config.vocab_size)
    runner.rest()  # nobody counts what was written so far
    return_free_memory()  # so did the checks
    return LoadedModel(
        info=ModelInfo(
            name=name,
            revision=artifact.revision,
            context_length=capacity,
            vocab_size=config.vocab_size,
            eos_ids=config.eos_ids,
            fingerprint=fingerprint(
                provider=provider,
                device=graph.memory.label,
                mode=mode,
                precision=_precision(artifact.graph, graph),
                threads=threads,
            ),
        ),
        tokenizer=tokenizer,
        chat_template=artifact.chat_template,
        runner=runner,
        question=question,
    )


def _room(graph: Graph, rows_max: int, *, kv_memory_mib: int, prefix_cache_mib: int) -> int | None:
    """Tokens for which there is memory: of all rows together, and of each row where memory is taken at once; None where
    nothing says how much there is.
    """
    num_bytes: int | None = kv_memory_mib << 20
    if not num_bytes:
        return_free_memory()
        num_bytes = graph.memory.available_bytes()
    if num_bytes is None:
        return None
    if not kv_memory_mib:
        num_bytes = int(KV_SHARE * max(0, num_bytes - (prefix_cache_mib << 20)))
    within = tokens_within if graph.memory.is_lazy else capacity_within
    return within(
        num_bytes,
        num_slots=rows_max,
        num_layers=graph.num_layers,
        num_kv_heads=graph.num_kv_heads,
        head_size=graph.head_size,
        precision=graph.kv,
    )


def _precision(file: Path, graph: Graph) -> str:
    """How the weights are stored and, if that is another form, how they compute."""
    stored = precision_of(file)
    if graph.kv is FP16 and not graph.is_native:  # and everything that is not quantised
        return f"{'fp16' if stored == 'fp32' else stored}-kv-fp16"
    if graph.is_native:
        return f"{stored}-native{VERSION}-kv-{graph.kv.name}"
    if graph.few is not graph.many:
        return f"{stored}+prefill-int8"
    return f"{stored}-as-int8" if graph.is_int8 else stored
