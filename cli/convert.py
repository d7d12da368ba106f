"""`lepton convert`: a Hugging Face folder becomes one that workers serve."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.options import BlockSizeOption, ConfigOption, JsonOption, MadeFolder
from cli.outcome import interruptible, reported
from cli.screen import err, write_json
from convert.precision import Precision

__all__ = ["convert"]


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="HF_FOLDER",
            show_default=False,
            help="Local folder with config.json, safetensors, tokenizer.json.",
        ),
    ],
    output: MadeFolder,
    *,
    precision: Annotated[Precision, typer.Option(help="Bits of a weight.")] = Precision.INT4,
    block_size: BlockSizeOption = None,
    accuracy: Annotated[
        bool,
        typer.Option(
            "--accuracy/--no-accuracy",
            help="Compare with an fp32 export, which takes its time and 4 bytes a parameter.",
        ),
    ] = True,
    python: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            show_default=False,
            help="Python that has PyTorch and onnxruntime-genai (LEPTON_CONVERT_PYTHON). Default: our own.",
        ),
    ] = None,
    environment: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            show_default=False,
            help="Where ours is made (LEPTON_CONVERT_ENVIRONMENT). Default: ~/.local/share/lepton/convert.",
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Install that environment without asking.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a served model of a Hugging Face folder.

    Exports with the onnxruntime-genai builder, checks the result as a worker does, and says what rounding cost. The
    builder lives in an environment of its own, installed the first time when you agree.
    """
    with reported(as_json=as_json), interruptible():
        from cli.convert_view import StageView, show_result
        from common.clock import SystemClock
        from common.release import release
        from common.settings import load
        from convert.convert import ConvertRequest
        from convert.convert import convert as run
        from convert.precision import Storage
        from convert.settings import ConvertSettings

        flags = {"python": python, "environment": environment}
        sections = load(
            {"convert": ConvertSettings},
            file=config,
            env=os.environ,
            flags={("convert", key): str(path) for key, path in flags.items() if path},
        )
        request = ConvertRequest(
            source=source,
            out=output,
            storage=Storage.of(precision, block_size),
            made_by=f"lepton {release()}",
            settings=sections["convert"],
            measures=accuracy,
        )

        def consent(folder: Path, num_bytes: int) -> bool:
            return yes or _asked(folder, num_bytes)

        result = run(request, consent, StageView(SystemClock()))
        if as_json:
            write_json(result.record())
        else:
            show_result(result)


def _asked(folder: Path, num_bytes: int) -> bool:
    """On a terminal only; elsewhere nobody can answer, and the answer is no."""
    if not (sys.stdin.isatty() and err().is_terminal):
        return False
    err().print(
        f"Converting needs PyTorch and the onnxruntime-genai builder, in {folder}: "
        f"{num_bytes / 1e9:.1f} GB to download, once.",
        soft_wrap=True,
    )
    return typer.confirm("Install them?", err=True)
