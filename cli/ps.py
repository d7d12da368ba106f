"""`lepton ps`: workers, models, load."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import AddressOption, JsonOption, StateDirOption
from cli.outcome import FAILED, reported
from cli.screen import cell, out, write_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cli.census import Census
    from cli.target import Target
    from common.discovery.settings import DiscoverySettings

__all__ = ["census_json", "census_view", "ps"]

_STATE_STYLES = {"serving": "green", "draining": "yellow", "unlisted": "yellow"}


def ps(
    *,
    etcd: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT,…",
            envvar="LEPTON_DISCOVERY_ETCD_ENDPOINTS",
            show_default=False,
            help="Registry to read. Default: that of `lepton up`.",
        ),
    ] = "",
    address: AddressOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the workers and how busy they are.

    Ends with 1 when the router does not answer.
    """
    with reported(as_json=as_json):
        from cli.census import take_census
        from cli.target import find_target
        from common.clock import SystemClock

        target = find_target(address, state_dir)
        census = asyncio.run(take_census(target, _discovery(target, etcd), SystemClock()))
        if as_json:
            write_json(census_json(census))
        else:
            out().print(census_view(census))
        if census.router_error:
            raise typer.Exit(FAILED)


def census_json(census: Census) -> dict[str, Any]:
    """The whole picture as JSON data."""
    from cli.plain import plain

    return {
        "router": {
            "address": census.address,
            "answers": not census.router_error,
            "error": census.router_error or None,
        },
        "registry": {"where": census.registry or None, "answers": not census.registry_away},
        "models": [plain(model) for model in census.models],
        "workers": [dataclasses.asdict(row) for row in census.workers],
        "problems": list(census.problems),
    }


def census_view(census: Census) -> RenderableType:
    """For people: one line for router and registry, one per worker."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = Text("router ", style="dim").append(census.address, style="not dim cyan")
    if census.router_error:
        head.append(" does not answer", style="not dim red")
    if census.registry:
        head.append("   registry ").append(census.registry, style="not dim cyan")
        if census.registry_away:
            head.append(" does not answer", style="not dim yellow")
    parts: list[RenderableType] = [head, Text()]
    if census.workers:
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        for title in ("worker", "model", "revision", "state"):
            table.add_column(title, no_wrap=True)
        for title in ("running", "waiting", "kv"):
            table.add_column(title, justify="right", no_wrap=True)
        table.add_column("address", no_wrap=True)
        table.add_column("pid", justify="right", no_wrap=True)
        for row in census.workers:
            table.add_row(
                cell(row.id, "bold"),
                cell(row.model),
                cell(row.revision[:8]),
                cell(row.state, _STATE_STYLES.get(row.state, "red")),
                "" if row.running is None else f"{row.running}/{row.rows_max}",
                "" if row.waiting is None else str(row.waiting),
                "" if row.kv_usage is None else f"{row.kv_usage:.0%}",
                cell(row.address),
                "" if row.pid is None else str(row.pid),
            )
        parts.append(table)
    elif census.models:
        from cli.models import models_table

        # A cluster of another machine: its registry is not ours to read.
        parts.append(models_table(list(census.models)))
    else:
        parts.append(Text("no worker", style="yellow"))
    parts.extend(cell(f"unreadable entry {problem}", "yellow") for problem in census.problems)
    return Group(*parts)


def _discovery(target: Target, etcd: str) -> DiscoverySettings:
    from common.discovery.settings import DiscoverySettings
    from common.settings import load

    flags: dict[tuple[str, str], str] = {}
    if etcd:
        flags["discovery", "etcd_endpoints"] = etcd
    elif target.state and target.state.etcd_endpoints:
        flags["discovery", "etcd_endpoints"] = ",".join(target.state.etcd_endpoints)
    elif target.state and target.state.registry_dir:
        flags["discovery", "registry_dir"] = str(target.state.registry_dir)
    found = load({"discovery": DiscoverySettings}, env=os.environ, flags=flags)
    settings: DiscoverySettings = found["discovery"]
    return settings
