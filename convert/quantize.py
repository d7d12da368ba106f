"""`lepton quantize`: a served fp32 folder → the same model with rounded weights, without PyTorch."""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from convert.finish import finish, weight_bytes
from convert.output import check_output, check_room, scratch_for
from convert.precision import Storage
from convert.progress import SILENT, Progress
from convert.result import Facts, Result
from convert.settings import ConvertSettings
from convert.worker import WorkerSide

__all__ = ["QuantizeRequest", "quantize"]

COPIED: Final = (
    "genai_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
"""What is the same in every precision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeRequest:
    """What was asked for."""

    source: Path
    """Served folder with fp32 weights."""
    out: Path
    storage: Storage
    """int4 or int8."""
    made_by: str
    """For manifest and card: "lepton 0.1.0"."""
    settings: ConvertSettings = field(default_factory=ConvertSettings)


def quantize(request: QuantizeRequest, progress: Progress = SILENT) -> Result:
    """Makes `request.out`; blocks for seconds to minutes.

    Raises `BadModel` for a source that workers would refuse or that is rounded already, `Conflict` for the output, the
    disk, a missing package or blocks that the algorithm cannot pack, `Unavailable` for a step that crashed.
    """
    seconds_max = request.settings.step_s_max
    with progress.stage("reading the source"), tempfile.TemporaryDirectory() as folder:
        worker = WorkerSide(Path(folder) / "log", seconds_max=seconds_max)
        source = worker.served(request.source)
    check_output(request.out)
    check_room(request.out, source["num_parameters"] * request.storage.bits // 8)
    with scratch_for(request.out) as scratch:
        worker = WorkerSide(scratch.log, seconds_max=seconds_max)
        with progress.stage(f"quantising to {request.storage}"):
            packages = worker.quantize(request.source, scratch.result, request.storage)
        for name in COPIED:
            if (request.source / name).is_file():
                shutil.copyfile(request.source / name, scratch.result / name)
        known = _manifest(request.source)
        facts = Facts(
            name=request.out.absolute().name,
            source=source["name"],
            family=source["family"],
            num_parameters=source["num_parameters"],
            license=known.get("license"),
            context_max=known.get("context_max"),
            storage=request.storage,
            made_by=request.made_by,
            command=_command(source["name"], request),
            packages=packages,
        )
        return finish(
            scratch,
            facts,
            reference=request.source,
            source_bytes=weight_bytes(request.source),
            worker=worker,
            progress=progress,
        )


def _manifest(folder: Path) -> dict[str, Any]:
    """What the source's own manifest says, which the worker's side has read; {} without one."""
    path = folder / "manifest.json"
    said: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return said


def _command(source: str, request: QuantizeRequest) -> str:
    words = ["lepton", "quantize", source, request.out.name, *request.storage.options()]
    return shlex.join([*words, "--algorithm", request.storage.algorithm])
