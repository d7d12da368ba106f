"""The questions that only the worker's side can answer, each put to a process of its own.

A process (`python -m worker.conversion`), so that the command line imports no ONNX Runtime, and so that a model too
large for the memory ends that process and not ours.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, final

from common.oneshot import ask
from convert.precision import ACCURACY_LEVEL, Storage

__all__ = ["WorkerSide"]


@final
class WorkerSide:
    """Every method raises what a worker would refuse with, or `Unavailable(PROCESS_FAILED)` naming the log."""

    def __init__(self, log: Path, *, seconds_max: float) -> None:
        """`log` takes what the processes say; none may take longer than `seconds_max`."""
        self._log = log
        self._seconds_max = seconds_max

    def source(self, folder: Path) -> dict[str, Any]:
        """Of a Hugging Face folder: name, family, architecture, num_parameters, weight_bytes, license, context_max."""
        return self._ask("reading the source", "source", folder)

    def served(self, folder: Path) -> dict[str, Any]:
        """Of a served fp32 folder: name, family, precision, num_parameters, weight_bytes."""
        return self._ask("reading the source", "served", folder)

    def quantize(self, folder: Path, out: Path, storage: Storage) -> dict[str, str]:
        """Writes model.onnx and its data to `out`; returns the packages that did it, with versions."""
        found = self._ask(
            "quantising", "quantize", folder, out, "--bits", storage.bits, "--block-size", storage.block_size,
            "--algorithm", storage.algorithm, "--accuracy-level", ACCURACY_LEVEL,
        )  # fmt: skip
        packages: dict[str, str] = found["packages"]
        return packages

    def golden(self, folder: Path) -> dict[str, Any] | None:
        """What golden.json is to hold; None when no token of the answer is beyond doubt."""
        golden: dict[str, Any] | None = self._ask("asking the golden prompt", "golden", folder)[
            "golden"
        ]
        return golden

    def accuracy(self, reference: Path, folder: Path) -> dict[str, dict[str, Any]]:
        """Form of the weights → `worker.conversion.accuracy.Accuracy` of it, as a dict."""
        return self._ask("measuring the accuracy", "accuracy", reference, folder)

    def check(self, folder: Path) -> dict[str, Any]:
        """Revision and fingerprint, as a worker that serves `folder` reports them."""
        return self._ask("checking the result", "check", folder)

    def _ask(self, what: str, *arguments: object) -> dict[str, Any]:
        # -P: a folder called "worker" where the user happens to be must not be taken for ours.
        command = [sys.executable, "-P", "-m", "worker.conversion", *map(str, arguments)]
        return ask(command, what=what, log=self._log, env=os.environ, seconds_max=self._seconds_max)
