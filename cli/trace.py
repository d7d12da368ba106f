"""`lepton trace`: where the time of one call went."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import JsonOption, StateDirOption
from cli.outcome import reported
from cli.screen import out, write_json

__all__ = ["trace"]


def trace(
    *,
    trace_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID]",
            show_default=False,
            help="Trace id or its beginning. Default: the last generation.",
        ),
    ] = None,
    trace_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            envvar="LEPTON_TELEMETRY_TRACE_DIR",
            show_default=False,
            help="Folder with span files. Default: that of the state folder.",
        ),
    ] = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw one call: what ran where, and when."""
    with reported(as_json=as_json):
        from cli.target import find_state_dir
        from cli.traces import last_generation
        from common.telemetry.waterfall import read_spans, render, to_json

        folder = trace_dir or find_state_dir(state_dir).traces
        spans = read_spans(folder, trace_id or last_generation(folder))
        if as_json:
            write_json({"trace_id": spans.trace_id, "spans": to_json(spans)})
            return
        out().print(f"[dim]trace[/] {spans.trace_id}")
        out().print(render(spans))
        if spans.num_skipped_lines:
            out().print(f"[dim]{spans.num_skipped_lines} lines could not be read[/]")
