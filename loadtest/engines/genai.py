"""onnxruntime-genai: static batches, so all streams begin and end together."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt
import onnxruntime_genai as og

from loadtest.engines.api import Decoded, Facts, window_rate

__all__ = ["GenaiEngine"]


@final
class GenaiEngine:
    """`loadtest.engines.api.Engine` on `onnxruntime_genai.Generator`."""

    def __init__(self, folder: Path, *, threads: int, rows_max: int, context_max: int) -> None:
        del rows_max
        config = og.Config(str(folder))
        options = {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self._model = og.Model(config)
        self._context_max = context_max
        self._facts = Facts(
            name="onnxruntime-genai", version=og.__version__, precision=folder.name, threads=threads
        )

    @property
    def facts(self) -> Facts:
        return self._facts

    def prefill(self, prompt: list[int]) -> float:
        """See `Engine`."""
        began = time.perf_counter()
        generator = self._generator([prompt], 1)
        generator.generate_next_token()
        return time.perf_counter() - began

    def decode(self, prompts: list[list[int]], num_tokens: int) -> Decoded:
        """See `Engine`."""
        generator, times = self._generator(prompts, num_tokens), []
        for _ in range(num_tokens):
            generator.generate_next_token()
            times.append(time.perf_counter())
        return window_rate([times] * len(prompts))

    def logits(self, prompts: list[list[int]]) -> npt.NDArray[np.float32]:
        """See `Engine`."""
        rows = []
        for *begin, last in prompts:
            generator = self._generator([begin], 2)
            generator.append_tokens(np.array([[last]], np.int32))
            found = np.asarray(generator.get_logits(), np.float32)
            rows.append(found.reshape(-1, found.shape[-1])[-1])
        return np.stack(rows)

    def close(self) -> None:
        """See `Engine`."""

    def _generator(self, prompts: list[list[int]], num_tokens: int) -> Any:
        length = len(prompts[0]) + num_tokens + 1
        parameters = og.GeneratorParams(self._model)
        parameters.set_search_options(
            batch_size=len(prompts),
            do_sample=False,
            min_length=min(length, self._context_max),
            max_length=min(length, self._context_max),
        )
        generator = og.Generator(self._model, parameters)
        generator.append_tokens(np.array(prompts, np.int32))
        return generator
