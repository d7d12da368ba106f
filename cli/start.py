"""`lepton` alone: what this is, whether a cluster runs, and what to type next."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.target import find_state_dir

__all__ = ["welcome"]


def welcome() -> RenderableType:
    """A screen that fits anywhere."""
    state = find_state_dir(None).read()
    if state is None:
        where = Text("No cluster runs here. Start one:", style="bold")
        steps = [
            ("lepton up", "etcd, a router and two workers with a small model"),
            ("lepton up --model DIR", "with a model of yours"),
            ("lepton doctor", "is this machine fit?"),
        ]
    else:
        where = Text("A cluster runs at ", style="bold").append(state.address, style="cyan")
        if state.http_address:
            where.append(", REST and page at ").append(f"http://{state.http_address}", "cyan")
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
