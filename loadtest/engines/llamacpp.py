"""llama.cpp: its own `llama-batched-bench`, which neither samples nor schedules; a process for each measurement."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from loadtest.engines.api import Decoded, Facts

__all__ = ["LlamaCppEngine"]

PROGRAM_VARIABLE: Final = "LLAMA_BATCHED_BENCH"
"""Environment variable with the path of the program."""
TRIES: Final = 5
"""The program prints from a thread of its own and now and then ends before that thread has written anything."""
VERSION_VARIABLE: Final = "LLAMA_CPP_VERSION"
"""Environment variable with what it was built from."""


@final
class LlamaCppEngine:
    """`loadtest.engines.api.Engine` on a program. Token ids do not matter to it: it makes its own.

    Logits come from the same libraries through llama-cpp-python (`LLAMA_CPP_LIB_PATH`), where that can be imported.
    """

    def __init__(self, file: Path, *, threads: int, rows_max: int, context_max: int) -> None:
        del rows_max, context_max
        self._program = os.environ[PROGRAM_VARIABLE]
        self._file, self._threads = file, threads
        self._facts = Facts(
            name="llama.cpp",
            version=os.environ.get(VERSION_VARIABLE, "batched-bench"),
            precision=file.stem,
            threads=threads,
        )

    @property
    def facts(self) -> Facts:
        return self._facts

    def prefill(self, prompt: list[int]) -> float:
        """See `Engine`."""
        return float(self._bench(streams=1, prompt=len(prompt), tokens=1)["t_pp"])

    def decode(self, prompts: list[list[int]], num_tokens: int) -> Decoded:
        """See `Engine`."""
        found = self._bench(streams=len(prompts), prompt=len(prompts[0]), tokens=num_tokens)
        step_ms = 1e3 * float(found["t_tg"]) / num_tokens
        return Decoded(
            streams=len(prompts),
            tokens_per_s=float(found["speed_tg"]),
            itl_ms=step_ms,
            itl_ms_p99=step_ms,  # the program tells the mean only
        )

    def logits(self, prompts: list[list[int]]) -> npt.NDArray[np.float32]:
        """See `Engine`."""
        try:
            import llama_cpp
        except (ImportError, RuntimeError, OSError) as error:
            raise NotImplementedError(f"llama-cpp-python cannot be imported: {error}") from error
        silent = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(silent, None)
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = 512
        options.n_threads = options.n_threads_batch = self._threads
        options.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        model = llama_cpp.llama_model_load_from_file(
            str(self._file).encode(), llama_cpp.llama_model_default_params()
        )
        context = llama_cpp.llama_init_from_model(model, options)
        num_ids = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        rows = []
        for *begin, last in prompts:
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)  # noqa: FBT003 - C
            for ids in (begin, [last]):
                tokens = (llama_cpp.llama_token * len(ids))(*ids)
                batch = llama_cpp.llama_batch_get_one(tokens, len(ids))
                if llama_cpp.llama_decode(context, batch):
                    raise RuntimeError(f"llama.cpp refused a batch of {len(ids)} tokens")
            found = llama_cpp.llama_get_logits_ith(context, -1)
            rows.append(np.ctypeslib.as_array(found, (num_ids,)).astype(np.float32))
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)
        return np.stack(rows)

    def close(self) -> None:
        """See `Engine`."""

    def _bench(self, *, streams: int, prompt: int, tokens: int) -> dict[str, Any]:
        context = -(-streams * (prompt + tokens) // 256) * 256
        command = [
            *(self._program, "-m", str(self._file), "-t", str(self._threads)),
            *("-tb", str(self._threads), "-c", str(context), "-b", "2048", "-ub", "512"),
            *("-npp", str(prompt), "-ntg", str(tokens), "-npl", str(streams)),
            *("-ngl", "0", "-fa", "on", "--output-format", "jsonl"),
        ]
        for _ in range(TRIES):
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            if lines := [line for line in done.stdout.splitlines() if line.startswith("{")]:
                return dict(json.loads(lines[-1]))
        raise RuntimeError(f"{self._program} printed no result {TRIES} times: {done.stderr[-500:]}")
