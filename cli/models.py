"""`lepton models`: what can be asked now."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cli.options import AddressOption, JsonOption, StateDirOption
from cli.outcome import reported
from cli.screen import cell, out, write_json

if TYPE_CHECKING:
    from rich.table import Table

    from lepton.v1 import types_pb2

__all__ = ["models", "models_table"]


def models(
    *, address: AddressOption = None, state_dir: StateDirOption = None, as_json: JsonOption = False
) -> None:
    """List the models that can be asked now."""
    with reported(as_json=as_json):
        from cli.plain import plain
        from cli.target import find_target

        found = asyncio.run(_list(find_target(address, state_dir).address))
        if as_json:
            write_json({"models": [plain(one) for one in found]})
        elif not found:
            out().print("No model can be asked now; `lepton ps` shows the workers.")
        else:
            out().print(models_table(found))


def models_table(found: list[types_pb2.ModelInfo]) -> Table:
    """One line per model and revision."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for title in ("model", "revision", "tasks", "tools"):
        table.add_column(title, no_wrap=True)
    for title in ("context", "vocabulary", "workers"):
        table.add_column(title, justify="right", no_wrap=True)
    for one in found:
        table.add_row(
            cell(one.model),
            cell(one.revision[:12]),
            cell(", ".join(one.tasks)),
            cell(one.tool_format or "none"),
            str(one.context_length),
            str(one.vocab_size),
            str(one.num_workers),
        )
    return table


async def _list(address: str) -> list[types_pb2.ModelInfo]:
    from cli.client import Client

    async with Client(address) as client:
        return await client.list_models()
