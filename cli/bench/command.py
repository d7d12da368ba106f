"""`lepton bench`: a load on a running cluster, and a report of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from cli.options import JsonOption, StateDirOption
from cli.outcome import FAILED, INTERRUPTED, interruptible, reported

__all__ = ["bench"]

_LOAD, _WHAT, _RESULT = "Load", "What is asked", "Result"


def bench(
    *,
    concurrency: Annotated[
        str | None,
        typer.Option(
            "--concurrency",
            "-c",
            metavar="N,N,…",
            show_default="1,4,8",
            help="Closed loop: callers at the same time; one load after the other.",
            rich_help_panel=_LOAD,
        ),
    ] = None,
    rate: Annotated[
        str,
        typer.Option(
            metavar="R,R,…",
            show_default=False,
            help="Open loop instead: requests per second, Poisson arrivals; one load after the other.",
            rich_help_panel=_LOAD,
        ),
    ] = "",
    requests: Annotated[
        int,
        typer.Option(
            "--requests",
            "-r",
            min=1,
            help="Requests of each load; one for each caller at least.",
            rich_help_panel=_LOAD,
        ),
    ] = 40,
    warmup: Annotated[
        int, typer.Option(min=0, help="Requests before, not counted.", rich_help_panel=_LOAD)
    ] = 4,
    in_flight_max: Annotated[
        int,
        typer.Option(
            min=1,
            help="Open loop: requests on their way at the same time; more fail with NOT_SENT.",
            rich_help_panel=_LOAD,
        ),
    ] = 1024,
    timeout: Annotated[
        float,
        typer.Option(min=0.001, help="Deadline of each request, seconds.", rich_help_panel=_LOAD),
    ] = 120.0,
    direct: Annotated[
        bool,
        typer.Option(
            "--direct",
            help="Stream from the workers; the router only picks them.",
            rich_help_panel=_LOAD,
        ),
    ] = False,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            help="Asked in turn; repeatable. Default: a few questions.",
            show_default=False,
            rich_help_panel=_WHAT,
        ),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Prompts without chat template.", rich_help_panel=_WHAT)
    ] = False,
    prompt_tokens: Annotated[
        str,
        typer.Option(
            metavar="LENGTHS",
            show_default=False,
            help="Random prompts of such lengths: 128, uniform:16-256 or lognormal:128,0.5 (median, sigma).",
            rich_help_panel=_WHAT,
        ),
    ] = "",
    shared_prefix_tokens: Annotated[
        int,
        typer.Option(
            min=0, help="With --prompt-tokens: a beginning they share.", rich_help_panel=_WHAT
        ),
    ] = 0,
    prefix_groups: Annotated[
        int, typer.Option(min=1, help="Different beginnings.", rich_help_panel=_WHAT)
    ] = 1,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="64",
            help="Tokens of each answer at most.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    ignore_eos: Annotated[
        bool,
        typer.Option("--ignore-eos", help="Make every answer that long.", rich_help_panel=_WHAT),
    ] = False,
    output_tokens: Annotated[
        str,
        typer.Option(
            metavar="LENGTHS",
            show_default=False,
            help="Answers of exactly such lengths, written as for --prompt-tokens.",
            rich_help_panel=_WHAT,
        ),
    ] = "",
    cancel_share: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of clients that go away early.", rich_help_panel=_WHAT
        ),
    ] = 0.0,
    seed: Annotated[
        int, typer.Option(help="Same seed, same requests and arrivals.", rich_help_panel=_WHAT)
    ] = 0,
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="Model name.", show_default=False, rich_help_panel=_WHAT
        ),
    ] = "",
    slo: Annotated[
        str,
        typer.Option(
            metavar="BOUNDS",
            show_default=False,
            help="Objective for goodput: ttft=200ms,tpot=50ms (also e2el=2s).",
            rich_help_panel=_RESULT,
        ),
    ] = "",
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="Write an HTML page with plots.",
            rich_help_panel=_RESULT,
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--url",
            "--address",
            "-a",
            metavar="HOST:PORT",
            envvar="LEPTON_ADDRESS",
            show_default=False,
            help="Router or worker. Default: the cluster of `lepton up`, else 127.0.0.1:50051.",
        ),
    ] = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a running cluster under load.

    Closed loop (default): callers ask again as soon as they have their answer. Open loop (--rate): requests arrive by
    plan and wait for nobody; latencies count from the planned arrival, so a slow server cannot hide behind a late
    sender (JSON and report say both). Ctrl-C shows what was measured so far. Ends with 1 when a request failed.

    TTFT: time to the first token. TPOT: time per token after the first, one value per request. ITL: gaps between
    messages with tokens, all requests together. tokens/s: completion tokens of all requests by the duration.
    Goodput: requests per second that keep every bound of --slo. Definitions as in vLLM's bench.
    """
    with reported(as_json=as_json), interruptible():
        from cli.bench.plan import Wish, make_plan
        from cli.bench.show import reserved, run_plan, show_reports
        from cli.target import find_target

        plan = make_plan(
            Wish(
                concurrency=concurrency,
                rate=rate,
                requests=requests,
                warmup=warmup,
                in_flight_max=in_flight_max,
                timeout_s=timeout,
                prompts=tuple(prompt or ()),
                raw=raw,
                prompt_tokens=prompt_tokens,
                shared_prefix_tokens=shared_prefix_tokens,
                prefix_groups=prefix_groups,
                max_tokens=max_tokens,
                ignore_eos=ignore_eos,
                output_tokens=output_tokens,
                cancel_share=cancel_share,
                seed=seed,
                model=model,
                slo=slo,
                direct=direct,
            )
        )
        where = find_target(address, state_dir).address
        with reserved(report):
            reports = asyncio.run(run_plan(where, plan))
            show_reports(reports, where, plan, as_json=as_json, page=report)
        if not all(one.complete for one in reports):
            raise typer.Exit(INTERRUPTED)
        if any(one.failed for one in reports):
            raise typer.Exit(FAILED)
