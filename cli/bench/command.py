"""`lepton bench`: a small load on a running cluster."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import AddressOption, JsonOption, StateDirOption
from cli.outcome import FAILED, reported
from cli.screen import err, out, write_json
from common.errors import InvalidRequest, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.bench.report import Report
    from cli.bench.run import Load

__all__ = ["bench", "run_bench"]


def bench(
    *,
    concurrency: Annotated[
        str,
        typer.Option("--concurrency", "-c", metavar="N,N,…", help="Callers at the same time."),
    ] = "1,4,8",
    requests: Annotated[
        int, typer.Option("--requests", "-r", min=1, help="Requests for each of them.")
    ] = 40,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each answer at most.")] = 64,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Make every answer that long.")
    ] = False,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            help="Asked in turn; repeatable. Default: a few questions.", show_default=False
        ),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Prompts without chat template.")] = False,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Model name.", show_default=False)
    ] = "",
    timeout: Annotated[
        float, typer.Option(min=0.001, help="Deadline of each request, seconds.")
    ] = 120.0,
    address: AddressOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a running cluster with a small load.

    Callers ask again as soon as they have their answer. Ends with 1 when a request failed.

    TTFT: from sending to the first token. TPOT: time per token after the first, one value per request. ITL: gaps
    between messages with tokens, all requests together. tokens/s: completion tokens of all requests by the duration.
    Medians (p50) and p99 in milliseconds; definitions as in vLLM's bench.
    """
    with reported(as_json=as_json):
        from cli.bench.run import PROMPTS, Load
        from cli.request import GenerateOptions
        from cli.target import find_target

        options = GenerateOptions(
            model=model, max_tokens=max_tokens, ignore_eos=True if ignore_eos else None
        )
        loads = [
            Load(
                requests=max(requests, callers),
                concurrency=callers,
                prompts=prompt or PROMPTS,
                options=options,
                raw=raw,
                timeout_s=timeout,
            )
            for callers in _numbers(concurrency)
        ]
        where = find_target(address, state_dir).address
        failed = asyncio.run(run_bench(where, loads, as_json=as_json))
        if failed:
            raise typer.Exit(FAILED)


async def run_bench(address: str, loads: Sequence[Load], *, as_json: bool) -> int:
    """Runs one load after the other and shows the result; returns how many requests failed."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from cli.bench.report import make_report, report_table, to_json
    from cli.bench.run import check_reachable, run_load
    from common.clock import SystemClock

    clock = SystemClock()
    await check_reachable(address)
    reports: list[Report] = []
    columns = (TextColumn("{task.description}", style="dim"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=err(), transient=True, disable=not err().is_terminal) as bar:
        for load in loads:
            task = bar.add_task(f"{load.concurrency} at once", total=load.requests)

            def on_sample(_: Any, task: Any = task) -> None:
                bar.advance(task)

            samples, took_s = await run_load(address, load, clock, on_sample=on_sample)
            reports.append(make_report(samples, concurrency=load.concurrency, took_s=took_s))
    if as_json:
        write_json({"address": address, **to_json(reports)})
    else:
        out().print(report_table(reports))
        for one in reports:
            for reason, number in one.errors.items():
                err().print(f"{number} of {one.requests} failed: {reason}", style="red")
    return sum(one.failed for one in reports)


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1 or max(numbers) > 10_000:
        raise InvalidRequest(
            f"--concurrency {text!r}: write numbers from 1, for example 1,4,8",
            reason=Reason.FIELD_MALFORMED,
            field="concurrency",
        )
    return numbers
