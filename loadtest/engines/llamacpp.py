"""llama.cpp: its own `llama-batched-bench`, which neither samples nor schedules; a process for each measurement."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, final

from loadtest.engines.api import Decoded, Facts

__all__ = ["LlamaCppEngine"]

PROGRAM_VARIABLE = "LLAMA_BATCHED_BENCH"
"""Environment variable with the path of the program."""


@final
class LlamaCppEngine:
    """`loadtest.engines.api.Engine` on a program. Token ids do not matter to it: it makes its own."""

    def __init__(self, file: Path, *, threads: int, rows_max: int, context_max: int) -> None:
        self._program = os.environ[PROGRAM_VARIABLE]
        self._file, self._threads = file, threads
        self._context = rows_max * context_max
        self._facts = Facts(
            name="llama.cpp", version="batched-bench", precision=file.stem, threads=threads
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
            step_ms=step_ms,
            step_ms_p99=step_ms,
        )

    def close(self) -> None:
        """See `Engine`."""

    def _bench(self, *, streams: int, prompt: int, tokens: int) -> dict[str, Any]:
        command = [
            *(self._program, "-m", str(self._file), "-t", str(self._threads)),
            *("-tb", str(self._threads), "-c", str(self._context), "-b", "2048", "-ub", "512"),
            *("-npp", str(prompt), "-ntg", str(tokens), "-npl", str(streams)),
            *("-ngl", "0", "-fa", "on", "--output-format", "jsonl"),
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        return dict(json.loads(lines[-1]))
