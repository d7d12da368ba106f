"""The lines of `lepton top` above and below its table: the cluster as a whole, and one worker in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.screen import cell
from cli.top.picture import TopPicture, WorkerLine

__all__ = ["cluster_lines", "sparkline", "worker_lines"]

_SPARKS: Final = "▁▂▃▄▅▆▇█"


def cluster_lines(picture: TopPicture | None, trouble: str, speeds: Sequence[float]) -> Group:
    """Two lines. `trouble` says why the picture is not of now, `speeds` are the last tokens a second."""
    if picture is None:
        return Group(cell(trouble or "asking …", "red" if trouble else "dim"), Text())
    ready = picture.count("ready", "suspect")
    ejected = picture.count("ejected", "lost")
    first = Text()
    _fact(first, f"{ready}/{len(picture.workers)}", "workers serve")
    if ejected:
        first.append(f"  {ejected} ejected or lost", style="bold red")
    _fact(first, f"{picture.running}/{picture.rows_max}", "streams in rows")
    _fact(first, f"{picture.tokens_per_s:.0f}", "tokens/s")
    first.append(f"  {sparkline(speeds, 16)}", style="green")
    second = Text(style="dim")
    if trouble:
        second = cell(trouble, "red")
    else:
        router = picture.router
        if router.queued is not None:
            _fact(second, str(router.queued + picture.waiting), "waiting")
        if router.in_flight is not None:
            _fact(second, str(router.in_flight), "calls in flight")
        if router.requests_per_s is not None:
            _fact(second, f"{router.requests_per_s:.1f}", "calls/s")
        if router.refusals_per_s:
            _fact(second, f"{router.refusals_per_s:.1f}", "refused/s")
        if picture.stale_s is not None:
            second.append(f"  registry away for {picture.stale_s:.0f} s", style="yellow")
    return Group(first, second)


def worker_lines(worker: WorkerLine, speeds: Sequence[float]) -> RenderableType:
    """Everything that is known of one."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(ratio=1)
    rows = [
        ("worker", worker.id),
        ("model", f"{worker.model} {worker.revision[:12]}"),
        ("state", f"{worker.state}: {worker.trouble}" if worker.trouble else worker.state),
        (
            "load",
            f"{worker.running}/{worker.rows_max} rows, {worker.waiting} waiting, KV {worker.kv_usage:.0%}",
        ),
        ("tokens/s", f"{worker.tokens_per_s:.0f}  {sparkline(speeds, 40)}"),
    ]
    since = []
    if worker.generated is not None:
        since.append(f"{worker.generated} tokens")
    if worker.cached is not None:
        since.append(f"{worker.cached:.0%} of prompts from the cache")
    if worker.first_token_s is not None:
        since.append(f"first token after {worker.first_token_s * 1e3:.0f} ms")
    if worker.errors is not None:
        since.append(f"{worker.errors} errors")
    if since:
        rows.append(("since start", ", ".join(since)))
    if worker.address:
        rows.append(("process", f"{worker.address}, pid {worker.pid or '-'}"))
    for name, value in rows:
        table.add_row(name, cell(value))
    return table


def sparkline(values: Sequence[float], length: int) -> str:
    """The last of them as bars, the largest the highest."""
    last = values[-length:]
    most = max(last, default=0.0)
    if not most:
        return ""
    steps = len(_SPARKS) - 1
    return "".join(_SPARKS[round(value / most * steps)] for value in last)


def _fact(line: Text, value: str, what: str) -> None:
    line.append("  " if line else "").append(value, style="bold not dim").append(f" {what}")
