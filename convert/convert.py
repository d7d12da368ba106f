"""`lepton convert`: judge → environment → build → finish.

Nothing is installed or written before the source is accepted.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import Conflict, Reason
from convert.builder import Builder, limit_context
from convert.environment import DOWNLOAD_BYTES, Environment, default_environment
from convert.finish import finish
from convert.output import check_output, check_room, scratch_for
from convert.precision import Precision, Storage
from convert.progress import SILENT, Progress
from convert.result import Facts, Result
from convert.settings import ConvertSettings
from convert.worker import WorkerSide

__all__ = ["Consent", "ConvertRequest", "convert"]

Consent = Callable[[Path, int], bool]
"""Asked with the folder and the bytes to download; whether they may be installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertRequest:
    """What was asked for."""

    source: Path
    """Hugging Face folder."""
    out: Path
    storage: Storage
    made_by: str
    """For manifest and card: "lepton 0.1.0"."""
    settings: ConvertSettings = field(default_factory=ConvertSettings)
    measures: bool = True
    """Whether rounded weights are compared with fp32 ones, which takes a second export."""


def convert(request: ConvertRequest, consent: Consent, progress: Progress = SILENT) -> Result:
    """Makes `request.out`; blocks for minutes.

    Raises, before anything is written: `BadModel` for the source, `Conflict` for the output, the disk and an
    environment that is missing and was not consented to. After that `Unavailable` for a tool that failed, `BadModel`
    for a result that a worker would refuse; then nothing is left but a log file.
    """
    measures = request.measures and request.storage.is_rounded
    with progress.stage("reading the source"):
        source = _judge(request)
    check_output(request.out)
    check_room(request.out, _bytes_written(source["num_parameters"], request.storage, measures))
    seconds_max = request.settings.step_s_max
    builder = Builder(_python(request.settings, consent, progress), seconds_max=seconds_max)
    facts = Facts(
        name=request.out.absolute().name,
        source=source["name"],
        family=source["family"],
        num_parameters=source["num_parameters"],
        license=source["license"],
        context_max=source["context_max"],
        storage=request.storage,
        made_by=request.made_by,
        command=_command(source["name"], request),
        packages=builder.packages,
    )
    with scratch_for(request.out) as scratch:
        folder = request.source
        with progress.stage(f"exporting {request.storage}"):
            builder.build(
                folder, scratch.result, request.storage, scratch=scratch.folder, log=scratch.log
            )
        if facts.context_max is not None:
            limit_context(scratch.result, facts.context_max)
        reference = None
        if measures:
            reference = scratch.folder / "reference"
            fp32 = Storage.of(Precision.FP32)
            with progress.stage("exporting fp32 to compare with"):
                builder.build(folder, reference, fp32, scratch=scratch.folder, log=scratch.log)
        return finish(
            scratch,
            facts,
            reference=reference,
            source_bytes=source["weight_bytes"],
            worker=WorkerSide(scratch.log, seconds_max=seconds_max),
            progress=progress,
        )


def _judge(request: ConvertRequest) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        worker = WorkerSide(Path(folder) / "log", seconds_max=request.settings.step_s_max)
        return worker.source(request.source)


def _python(settings: ConvertSettings, consent: Consent, progress: Progress) -> Path:
    if settings.python is not None:
        return settings.python
    environment = Environment(
        settings.environment or default_environment(os.environ), seconds_max=settings.step_s_max
    )
    if not environment.is_ready:
        if not consent(environment.folder, DOWNLOAD_BYTES):
            raise Conflict(
                f"converting needs PyTorch and the onnxruntime-genai builder in {environment.folder} "
                f"({DOWNLOAD_BYTES / 1e9:.1f} GB to download, once); say --yes to install them, or --python to name an "
                "environment that has them",
                reason=Reason.TOOL_MISSING,
            )
        with progress.stage(f"installing the builder ({DOWNLOAD_BYTES / 1e9:.1f} GB, once)"):
            environment.install()
    return environment.python


def _bytes_written(num_parameters: int, storage: Storage, measures: bool) -> int:  # noqa: FBT001 - one of three facts
    """Weights that lie on the disk at the same time."""
    return num_parameters * storage.bits // 8 + (num_parameters * 4 if measures else 0)


def _command(source: str, request: ConvertRequest) -> str:
    words = ["lepton", "convert", source, request.out.name]
    return shlex.join([*words, *request.storage.options()])
