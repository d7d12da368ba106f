"""`lepton top`: a cluster, live."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.completion import complete_workers
from cli.options import AddressOption, JsonOption, StateDirOption
from cli.outcome import interruptible, reported
from cli.screen import out, write_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agent.state import ClusterState
    from cli.http.base_url import BaseUrl
    from cli.top.picture import TopPicture
    from cli.top.source import TopSource
    from common.clock import Clock

__all__ = ["top"]


def top(
    *,
    interval: Annotated[
        float, typer.Option("--interval", "-n", min=0.1, help="Seconds between two looks.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="One look, as text, and end.")] = False,
    worker: Annotated[
        str,
        typer.Option(
            "--worker",
            "-w",
            metavar="ID",
            help="Begin with the details of this one.",
            show_default=False,
            autocompletion=complete_workers,
        ),
    ] = "",
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            envvar="LEPTON_URL",
            show_default=False,
            help="HTTP door of the router. Default: that of `lepton up`.",
        ),
    ] = None,
    address: AddressOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Watch the cluster live: workers, streams, speed, queues, caches.

    Keys: q ends, s sorts by the next column, r the other way round, p pauses, Enter shows all of a worker.
    """
    with reported(as_json=as_json), interruptible():
        from cli.top.source import TopSource
        from common.clock import SystemClock
        from common.errors import InvalidRequest, Reason

        clock = SystemClock()
        source = TopSource(_finder(url, address, state_dir), clock)
        if once or as_json:
            asyncio.run(_print(source, clock, None if once else interval, as_json=as_json))
            return
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise InvalidRequest(
                "this is no terminal: use --once or --json", reason=Reason.FIELDS_CONTRADICT
            )
        asyncio.run(_watch(source, clock, interval, worker))


def _finder(
    url: str | None, address: str | None, state_dir: Path | None
) -> Callable[[], tuple[BaseUrl, ClusterState | None]]:
    from cli.door import find_door
    from cli.target import find_target
    from common.errors import Reason, Unavailable

    was_here = False

    def find() -> tuple[BaseUrl, ClusterState | None]:
        nonlocal was_here
        state = None if url else find_target(address, state_dir).state
        if was_here and state is None:  # whoever listens at the usual ports is another cluster
            raise Unavailable("the cluster has ended", reason=Reason.UNREACHABLE)
        was_here = state is not None or was_here
        return find_door(url, address, state_dir), state

    return find


async def _watch(source: TopSource, clock: Clock, interval_s: float, worker: str) -> None:
    from cli.top.app import TopApp

    async with source:
        await TopApp(source.look, clock, interval_s=interval_s, worker=worker).run_async()


async def _print(
    source: TopSource, clock: Clock, interval_s: float | None, *, as_json: bool
) -> None:
    """One look after the other, or one (None). A cluster that is away costs a line with `--json`, and the code."""
    from cli.outcome import error_record
    from common.errors import LeptonError

    async with source:
        while True:
            try:
                picture = await source.look()
            except LeptonError as error:
                if interval_s is None:
                    raise
                write_json({"at": clock.wall(), **error_record(error)})
            else:
                if as_json:
                    write_json(picture.as_json())
                else:
                    out().print(_view(picture, out().width))
            if interval_s is None:
                return
            await clock.sleep(interval_s)


def _view(picture: TopPicture, width: int) -> RenderableType:
    """For people: the cluster, then a line per worker."""
    from rich.console import Group
    from rich.table import Table

    from cli.top.columns import COLUMNS, shown, sorted_workers
    from cli.top.summary import cluster_lines

    columns = shown(width)
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.title, no_wrap=True)
    for worker in sorted_workers(picture.workers, COLUMNS[0], reverse=False):
        table.add_row(*(column.show(worker) for column in columns))
    return Group(cluster_lines(picture, "", ()), table)
