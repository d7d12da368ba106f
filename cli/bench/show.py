"""Runs a plan and shows what came of it: progress while it runs, then a table, JSON, a page."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.bench.html import report_page
from cli.bench.machine import machine_facts
from cli.bench.measure import Sample
from cli.bench.plan import Plan
from cli.bench.report import Report, Tally, report_table, to_json
from cli.bench.run import Load, check_reachable, run_load
from cli.bench.vocabulary import ordinary_ids
from cli.client import Client
from cli.screen import err, out, write_json
from common.clock import Clock, SystemClock
from common.release import release

__all__ = ["run_plan", "show_reports"]

_COLUMNS: Final = (
    TextColumn("{task.description}", style="dim"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeRemainingColumn(),
)


async def run_plan(address: str, plan: Plan) -> list[Report]:
    """Runs one load after the other. Raises `LeptonError` when nobody answers or the model cannot be asked so."""
    clock = SystemClock()
    await check_reachable(address)
    if plan.needs_vocabulary:
        async with Client(address) as client:
            plan = plan.with_vocabulary(await ordinary_ids(client, model=plan.model))
    with Progress(*_COLUMNS, console=err(), transient=True, disable=not err().is_terminal) as bar:
        if plan.warmup is not None:
            await _run(address, plan.warmup, Tally(), clock, bar, name="warm-up")
        return [
            await _run(address, load, Tally(plan.slo), clock, bar, name=str(load))
            for load in plan.loads
        ]


def show_reports(
    reports: Sequence[Report], address: str, plan: Plan, *, as_json: bool, page: Path | None
) -> None:
    """The page, where one is wanted, then JSON or a table. Raises `OSError` when the page cannot be written."""
    if page is not None:
        page.write_text(_page(address, plan, reports), "utf-8")
    if as_json:
        run = {"address": address, "seed": plan.seed, "slo": str(plan.slo or "")}
        write_json({**run, "machine": machine_facts(), **to_json(reports)})
    else:
        _print(reports, page)


async def _run(
    address: str, load: Load, tally: Tally, clock: Clock, bar: Progress, *, name: str
) -> Report:
    task = bar.add_task(name, total=load.requests)

    def on_sample(sample: Sample) -> None:
        tally.add(sample)
        bar.advance(task)

    before = time.process_time()
    took_s = await run_load(address, load, clock, on_sample=on_sample, timeline=tally.timeline)
    return tally.report(load, took_s, client_cpu_s=time.process_time() - before)


def _page(address: str, plan: Plan, reports: Sequence[Report]) -> str:
    facts = {
        "address": address,
        "model": plan.model or "the only one",
        "Lepton": release(),
        **{f"client: {name}": value for name, value in machine_facts().items()},
        "command": "lepton " + shlex.join(sys.argv[1:]),
    }
    return report_page(reports, title="Lepton under load", facts=facts, slo=str(plan.slo or ""))


def _print(reports: Sequence[Report], page: Path | None) -> None:
    out().print(report_table(reports))
    for one in reports:
        for reason, number in one.errors.items():
            err().print(f"{number} of {one.requests} failed: {reason}", style="red")
    if page is not None:
        err().print(f"report: {page}", style="dim", soft_wrap=True)
