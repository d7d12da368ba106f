"""The last steps of both commands: golden answer, accuracy, hashes, card, and the check that a worker makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convert.card import write_card
from convert.manifest import write_json, write_manifest
from convert.output import Scratch
from convert.progress import Progress
from convert.result import Facts, Result
from convert.worker import WorkerSide

__all__ = ["finish", "weight_bytes"]


def finish(
    scratch: Scratch,
    facts: Facts,
    *,
    reference: Path | None,
    source_bytes: int,
    worker: WorkerSide,
    progress: Progress,
) -> Result:
    """Completes the folder `scratch.result` and publishes it.

    `reference` is the fp32 folder to measure against; None leaves the measurement out.
    Raises what a worker would refuse the folder with; then nothing is published.
    """
    folder = scratch.result
    with progress.stage("asking the golden prompt"):
        golden = worker.golden(folder)
    if golden is not None:
        write_json(folder / "golden.json", golden)
    accuracy: dict[str, dict[str, Any]] | None = None
    if reference is not None:
        with progress.stage("measuring the accuracy"):
            accuracy = worker.accuracy(reference, folder)
    size = weight_bytes(folder)
    write_manifest(folder, facts, accuracy)
    write_card(folder, facts, source_bytes=source_bytes, weight_bytes=size, accuracy=accuracy)
    with progress.stage("checking the result as a worker does"):
        checked = worker.check(folder)
    scratch.publish()
    return Result(
        folder=scratch.out,
        facts=facts,
        revision=checked["revision"],
        source_bytes=source_bytes,
        weight_bytes=size,
        golden=golden,
        accuracy=accuracy,
    )


def weight_bytes(folder: Path) -> int:
    """Of a served folder: the graph and its data."""
    return sum(path.stat().st_size for path in folder.glob("model.onnx*"))
