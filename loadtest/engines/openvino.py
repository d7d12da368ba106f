"""OpenVINO GenAI: its continuous-batching pipeline, stepped by hand."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt
import openvino
import openvino_genai as ovg

from loadtest.engines.api import Decoded, Facts, window_rate

__all__ = ["OpenVinoEngine"]

CACHE_GIB = 2


@final
class OpenVinoEngine:
    """`loadtest.engines.api.Engine` on `openvino_genai.ContinuousBatchingPipeline`."""

    def __init__(self, folder: Path, *, threads: int, rows_max: int, context_max: int) -> None:
        scheduler = ovg.SchedulerConfig()
        scheduler.cache_size = CACHE_GIB
        scheduler.max_num_seqs = rows_max
        scheduler.max_num_batched_tokens = context_max
        scheduler.enable_prefix_caching = False
        self._folder = folder
        # Everything else as OpenVINO chooses by itself: bf16 where the processor has it, activations in 8 bits.
        self._properties = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        self._pipeline: Any = ovg.ContinuousBatchingPipeline(
            str(folder), scheduler, "CPU", self._properties
        )
        self._next_id = 0
        self._facts = Facts(
            name="openvino-genai",
            version=str(openvino.__version__).partition("-")[0],
            precision=folder.name,
            threads=threads,
        )

    @property
    def facts(self) -> Facts:
        return self._facts

    def prefill(self, prompt: list[int]) -> float:
        """See `Engine`."""
        began = time.perf_counter()
        self._run([prompt], 1)
        return time.perf_counter() - began

    def decode(self, prompts: list[list[int]], num_tokens: int) -> Decoded:
        """See `Engine`."""
        return window_rate(self._run(prompts, num_tokens))

    def logits(self, prompts: list[list[int]]) -> npt.NDArray[np.float32]:
        """See `Engine`. The pipeline keeps its logits to itself, so the model runs in OpenVINO's own runtime here."""
        compiled = openvino.Core().compile_model(
            str(self._folder / "openvino_model.xml"), "CPU", self._properties
        )
        rows = []
        for *begin, last in prompts:
            request = compiled.create_infer_request()
            for start, ids in ((0, begin), (len(begin), [last])):
                end = start + len(ids)
                answer = request.infer(
                    {
                        "input_ids": np.array([ids], np.int64),
                        "attention_mask": np.ones((1, end), np.int64),
                        "position_ids": np.arange(start, end, dtype=np.int64)[None],
                        "beam_idx": np.zeros(1, np.int32),
                    }
                )
            rows.append(np.array(answer["logits"][0, -1], np.float32))
        return np.stack(rows)

    def close(self) -> None:
        """See `Engine`."""

    def _run(self, prompts: list[list[int]], num_tokens: int) -> list[list[float]]:
        wish = ovg.GenerationConfig()
        wish.max_new_tokens, wish.min_new_tokens = num_tokens, num_tokens
        wish.do_sample, wish.ignore_eos = False, True
        handles = []
        for prompt in prompts:
            self._next_id += 1
            ids = openvino.Tensor(np.array([prompt], np.int64))
            handles.append(self._pipeline.add_request(self._next_id, ids, wish))
        times: list[list[float]] = [[] for _ in prompts]
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
            now = time.perf_counter()
            for handle, stream in zip(handles, times, strict=True):
                if handle.can_read():
                    output = next(iter(handle.read().values()))
                    stream += [now] * len(output.generated_ids)
        return times
