"""The onnxruntime-genai model builder: Hugging Face folder → ONNX graph, run by the Python that has it.

python convert/exporter.py -i SOURCE -o OUT -p PRECISION -e cpu --extra_options …
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final, final

from common.errors import Conflict, Reason, Unavailable
from convert.precision import ACCURACY_LEVEL, Storage
from convert.process import run_logged

__all__ = ["Builder", "limit_context"]

PACKAGES: Final = ("onnxruntime-genai", "onnx", "onnx-ir", "onnxruntime", "torch", "transformers")
"""What it needs; their versions stand in the result's manifest."""

KEPT: Final = (
    "genai_config.json",
    "model.onnx",
    "model.onnx.data",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
"""What workers read, of all that it writes."""

_EXPORTER: Final = Path(__file__).absolute().with_name("exporter.py")

_PROBE: Final = """
import importlib.metadata as m, json, sys
found = {}
for name in sys.argv[1:]:
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: found[name] = None
print(json.dumps(found))
"""
PROBE_S_MAX: Final = 60.0

_OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}
"""The source is a local folder: nothing is to be fetched or told."""


@final
class Builder:
    """The builder in one environment."""

    def __init__(self, python: Path, *, seconds_max: float) -> None:
        """`seconds_max` bounds one export.

        Raises `Conflict(TOOL_MISSING)` when `python` does not run or lacks a package.
        """
        self._seconds_max = seconds_max
        # Not resolved: a link in its folder is what makes an environment.
        self._python = python = python.absolute()
        try:
            done = subprocess.run(
                [str(python), "-c", _PROBE, *PACKAGES],
                cwd=python.parent,
                env=_without_our_paths(),
                capture_output=True,
                text=True,
                timeout=PROBE_S_MAX,
                check=True,
            )
            found: dict[str, str | None] = json.loads(done.stdout)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise Conflict(
                f"{python}: is no Python that runs; name one with --python",
                reason=Reason.TOOL_MISSING,
            ) from error
        if missing := [name for name, number in found.items() if number is None]:
            raise Conflict(
                f"{python}: lacks {', '.join(missing)}; install them there, or leave --python out to get an "
                "environment made for it",
                reason=Reason.TOOL_MISSING,
            )
        self.packages = {name: number for name, number in found.items() if number is not None}
        """Versions of what it is made of."""

    def build(self, source: Path, out: Path, storage: Storage, *, scratch: Path, log: Path) -> None:
        """Exports `source` to `out` and keeps there what workers read.

        Raises `Unavailable(PROCESS_FAILED)` with the builder's last words and the log.
        """
        whole = scratch / f"built-{storage.precision}"
        command = [
            str(self._python), str(_EXPORTER), "-i", str(source.absolute()),
            "-o", str(whole), "-p", storage.precision.value, "-e", "cpu", "-c", str(scratch / "cache"),
            "--extra_options", *_options(storage),
        ]  # fmt: skip
        failed = run_logged(
            command,
            log=log,
            cwd=scratch,
            seconds_max=self._seconds_max,
            env={**_without_our_paths(), **_OFFLINE},
        )
        if failed is None and not (whole / "model.onnx").is_file():
            failed = "it wrote no model.onnx"
        if failed is not None:
            raise Unavailable(f"the builder failed: {failed} ({log})", reason=Reason.PROCESS_FAILED)
        out.mkdir(parents=True)
        for name in KEPT:
            if (whole / name).is_file():
                (whole / name).replace(out / name)
        shutil.rmtree(whole)


def limit_context(folder: Path, num_tokens: int) -> None:
    """Lowers the context of an exported folder, for a model that is right only so far."""
    path = folder / "genai_config.json"
    config = json.loads(path.read_text("utf-8"))
    config["model"]["context_length"] = min(config["model"]["context_length"], num_tokens)
    path.write_text(json.dumps(config, indent=4) + "\n", "utf-8")


def _options(storage: Storage) -> list[str]:
    """Keys and values whole, in every layer: workers keep them in slots of their own (docs/adr/0004)."""
    options = ["windowed_kv_cache=false"]
    if storage.is_rounded:
        options += [f"block_size={storage.block_size}", f"accuracy_level={ACCURACY_LEVEL}"]
    return options


def _without_our_paths() -> dict[str, str]:
    """Another environment's Python must not find our packages."""
    dropped = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    return {key: value for key, value in os.environ.items() if key not in dropped}
