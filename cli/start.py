"""`lepton` alone: what this is, whether a cluster runs, and what to type next."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.screen import printable
from cli.target import find_target

__all__ = ["welcome"]


def welcome() -> RenderableType:
    """A screen that fits anywhere."""
    folder = os.environ.get("LEPTON_AGENT_STATE_DIR", "")
    named = os.environ.get("LEPTON_ADDRESS")
    target = find_target(named, Path(folder) if folder else None)
    if target.state is None and not named:
        where = Text("No cluster runs here. Start one:", style="bold")
        steps = [
            ("lepton up", "etcd, a router and two workers with a small model"),
            ("lepton up --model DIR", "with a model of yours"),
            ("lepton doctor", "is this machine fit?"),
        ]
    else:
        where = Text(
            "A cluster runs at " if target.state else "LEPTON_ADDRESS names ", style="bold"
        )
        where.append(printable(target.address), style="cyan")
        if target.state and target.state.http_address:
            where.append(", REST and page at ")
            where.append(f"http://{target.state.http_address}", style="cyan")
        steps = [
            ('lepton generate "What is 27 + 35?"', "ask it"),
            ("lepton chat", "talk with it"),
            ("lepton top", "watch it"),
            ("lepton run-batch -i in.jsonl -o out.jsonl", "a file of requests"),
        ]
    table = Table.grid(padding=(0, 3))
    for command, what in [*steps, ("lepton --help", "every command")]:
        table.add_row(Text(command, style="cyan"), Text(what, style="dim"))
    title = Text("Lepton", style="bold").append(
        ": an LLM inference cluster on your own machines.", style="not bold"
    )
    return Group(title, Text(), where, Text(), table)
