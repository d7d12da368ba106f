"""`lepton run-batch`: a file of requests, answered by the cluster, into a file of answers."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import AddressOption, JsonOption, StateDirOption
from cli.outcome import FAILED, interruptible, reported
from cli.screen import cell, err, out, write_json

if TYPE_CHECKING:
    from cli.batch.run import BatchTally

__all__ = ["run_batch"]


def run_batch(
    *,
    source: Annotated[
        Path,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE",
            help="Requests, JSON lines.",
            exists=True,
            dir_okay=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Answers; continued when it exists."),
    ],
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, max=1024, help="Rows asked at once.")
    ] = 16,
    ordered: Annotated[
        bool, typer.Option("--ordered", help="At the end, sort the answers as the requests are.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask rows again that an earlier run failed.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.001, help="Longest answer, seconds.")
    ] = 600.0,
    patience: Annotated[
        float,
        typer.Option(
            "--patience",
            min=0,
            help="How long a row is tried again while the cluster is full or away, seconds.",
        ),
    ] = 120.0,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            envvar="OPENAI_BASE_URL",
            show_default=False,
            help="HTTP door to ask. Default: that of `lepton up`. OPENAI_API_KEY goes with it.",
        ),
    ] = None,
    address: AddressOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a file of OpenAI batch requests.

    Stop it as you like: the same command goes on where it was. Ends with 0 only when every row has its answer.
    """
    with reported(as_json=as_json), interruptible():
        from cli.batch.asking import AskLimits, RowAsker
        from cli.batch.output import OutputFile
        from cli.batch.progress import BatchProgress
        from cli.batch.run import Batch
        from cli.door import find_door
        from common.clock import SystemClock

        clock = SystemClock()
        base = find_door(url, address, state_dir)
        key = os.environ.get("OPENAI_API_KEY", "") if url else ""
        _check(source, output)
        with OutputFile(output, clock) as file, BatchProgress(err()) as progress:
            if retry_failed:
                file.drop_failed()
            asker = RowAsker(
                clock=clock,
                limits=AskLimits(timeout_s=timeout, patience_s=patience),
                headers={"authorization": f"Bearer {key}"} if key else {},
                on_setback=progress.setback,
            )
            batch = Batch(source, file, base, asker, clock, progress, concurrency=concurrency)
            try:
                asyncio.run(batch.run())
                if ordered:
                    file.sort()
            except BaseException:
                _told(batch.tally, output, as_json=as_json)
                raise
        _told(batch.tally, output, as_json=as_json)
        if not batch.tally.all_succeeded:
            raise typer.Exit(FAILED)


def _check(source: Path, output: Path) -> None:
    from common.errors import Conflict, Reason

    if output.exists() and output.samefile(source):
        raise Conflict(
            "input and output are the same file; choose another with --output",
            reason=Reason.OUTPUT_EXISTS,
        )


def _told(tally: BatchTally, output: Path, *, as_json: bool) -> None:
    if as_json:
        write_json({**tally.as_json(), "output": str(output)})
        return
    console = out()
    done = tally.succeeded + tally.failed
    asked = done - tally.done_before
    console.print(cell(f"{tally.succeeded} of {tally.rows} rows answered, in {output}", "bold"))
    if tally.done_before:
        console.print(f"{tally.done_before} of them were there before", style="dim")
    if asked:
        speed = tally.completion_tokens / tally.took_s if tally.took_s else 0.0
        again = f", {tally.retries} times asked again" if tally.retries else ""
        console.print(
            f"{asked} rows and {tally.completion_tokens} tokens in {tally.took_s:.1f} s "
            f"({speed:.0f} tokens/s){again}",
            style="dim",
        )
    for kind, count in tally.failures.most_common():
        console.print(cell(f"{count} failed: {kind}", "red"))
    if tally.failed and not tally.failures:
        console.print(f"{tally.failed} failed before; --retry-failed asks them again", style="red")
    if done < tally.rows:
        console.print(
            f"{tally.rows - done} rows are left; the same command goes on", style="yellow"
        )
