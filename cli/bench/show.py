"""Runs a plan and shows what came of it: progress while it runs, then a table, JSON, a page."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.bench.html import report_page
from cli.bench.machine import machine_facts
from cli.bench.measure import Sample
from cli.bench.plan import Plan
from cli.bench.report import Report, Tally, report_table, to_json
from cli.bench.run import Load, check_reachable, run_load
from cli.bench.slo import Slo
from cli.bench.vocabulary import ordinary_ids
from cli.client import Client
from cli.outcome import WRONG, exit_code
from cli.screen import cell, err, out, write_json
from common.clock import Clock, SystemClock
from common.errors import LeptonError
from common.release import release

__all__ = ["reserved", "run_plan", "show_reports"]

_COLUMNS: Final = (
    TextColumn("{task.description}", style="dim"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeRemainingColumn(),
)


async def run_plan(address: str, plan: Plan) -> list[Report]:
    """Runs one load after the other; Ctrl-C ends the last of the reports, which is then not `complete`.

    Raises `LeptonError` when nobody answers, or when the warm-up shows that the model cannot be asked so.
    """
    clock = SystemClock()
    await check_reachable(address)
    if plan.needs_vocabulary:
        async with Client(address) as client:
            plan = plan.with_vocabulary(await ordinary_ids(client, model=plan.model))
    with Progress(*_COLUMNS, console=err(), transient=True, disable=not err().is_terminal) as bar:
        if plan.warmup is not None:
            await _warm_up(address, plan.warmup, clock, bar)
        reports: list[Report] = []
        for load in plan.loads:
            reports.append(await _run(address, load, plan.slo, clock, bar))
            if not reports[-1].complete:
                break
        return reports


@contextlib.contextmanager
def reserved(page: Path | None) -> Iterator[None]:
    """A place that cannot be written is told now, not after the run; a run without a report leaves nothing there.

    Raises `OSError`.
    """
    if page is None:
        yield
        return
    made = not page.exists()
    page.open("a").close()
    try:
        yield
    finally:
        if made and not page.stat().st_size:
            page.unlink()


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


async def _warm_up(address: str, load: Load, clock: Clock, bar: Progress) -> None:
    """Raises what all requests were refused with, if it is the caller who must change something."""
    failures: list[LeptonError] = []

    def keep(sample: Sample) -> None:
        if sample.failure is not None:
            failures.append(sample.failure)

    await run_load(address, load, clock, on_sample=_counted(bar, "warm-up", load, keep))
    if len(failures) == load.requests and exit_code(failures[0]) == WRONG:
        raise failures[0]


async def _run(address: str, load: Load, slo: Slo | None, clock: Clock, bar: Progress) -> Report:
    tally = Tally(slo)
    on_sample = _counted(bar, str(load), load, tally.add)
    began, before, complete = clock.now(), time.process_time(), True
    try:
        took_s = await run_load(address, load, clock, on_sample=on_sample, timeline=tally.timeline)
    except asyncio.CancelledError:  # Ctrl-C: what is there may be all that somebody wanted to know
        took_s, complete = clock.now() - began, False
    cpu_s = time.process_time() - before
    return tally.report(load, took_s, client_cpu_s=cpu_s, complete=complete)


def _counted(
    bar: Progress, name: str, load: Load, take: Callable[[Sample], None]
) -> Callable[[Sample], None]:
    task = bar.add_task(name, total=load.requests)

    def on_sample(sample: Sample) -> None:
        take(sample)
        bar.advance(task)

    return on_sample


def _page(address: str, plan: Plan, reports: Sequence[Report]) -> str:
    facts = {
        "address": address,
        "model": plan.model or "the only one",
        "client": f"Lepton {release()}; "
        + "; ".join(f"{name}: {value}" for name, value in machine_facts().items()),
        "command": "lepton " + shlex.join(sys.argv[1:]),
    }
    return report_page(reports, title="Lepton under load", facts=facts, slo=str(plan.slo or ""))


def _print(reports: Sequence[Report], page: Path | None) -> None:
    out().print(report_table(reports))
    for one in reports:
        for reason, number in one.errors.items():
            said = f" ({text})" if (text := one.messages.get(reason)) else ""
            line = cell(f"{number} of {one.requests} failed: {reason}{said}", "red")
            err().print(line, soft_wrap=True)
        if not one.complete:
            err().print(f"interrupted after {one.requests} requests of {one.load}", style="yellow")
    if page is not None:
        err().print(f"report: {page}", style="dim", soft_wrap=True)
