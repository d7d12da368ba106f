"""`lepton quantize`: a served fp32 folder becomes a smaller one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cli.options import BlockSizeOption, ConfigOption, JsonOption, MadeFolder
from cli.outcome import interruptible, reported
from cli.screen import write_json
from convert.precision import Algorithm, Precision

__all__ = ["quantize"]


def quantize(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            show_default=False,
            help="Served folder with fp32 weights (lepton convert --precision fp32).",
        ),
    ],
    output: MadeFolder,
    *,
    precision: Annotated[Precision, typer.Option(help="int4 or int8.")] = Precision.INT4,
    block_size: BlockSizeOption = None,
    algorithm: Annotated[
        Algorithm, typer.Option(help="How weights are rounded; k_quant searches longest.")
    ] = Algorithm.DEFAULT,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Round the weights of a served fp32 model to 4 or 8 bits.

    Needs no PyTorch. Checks the result as a worker does, and says what rounding cost.
    """
    with reported(as_json=as_json), interruptible():
        from cli.convert_view import StageView, show_result
        from common.clock import SystemClock
        from common.errors import InvalidRequest, Reason
        from common.release import release
        from common.settings import load
        from convert.precision import Storage
        from convert.quantize import QuantizeRequest
        from convert.quantize import quantize as run
        from convert.settings import ConvertSettings

        if precision is Precision.FP32:
            raise InvalidRequest(
                "--precision fp32: the source has that already; choose int4 or int8",
                reason=Reason.FIELD_OUT_OF_RANGE,
                field="precision",
            )
        sections = load({"convert": ConvertSettings}, file=config, env=os.environ)
        request = QuantizeRequest(
            source=source,
            out=output,
            storage=Storage.of(precision, block_size, algorithm),
            made_by=f"lepton {release()}",
            settings=sections["convert"],
        )
        result = run(request, StageView(SystemClock()))
        if as_json:
            write_json(result.record())
        else:
            show_result(result)
