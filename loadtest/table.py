"""One table, two forms: for the terminal and for a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table as RichTable
from rich.text import Text

__all__ = ["Table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Cells are plain text; `**bold**` marks the best of a column."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The table under its title in bold; the first column to the left, the rest to the right."""
        lines = [f"| {' | '.join(self.head)} |", f"|---|{'---:|' * (len(self.head) - 1)}"]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return "\n".join([*([f"**{self.title}**", ""] if self.title else []), *lines])

    def rich(self) -> RichTable:
        """For a terminal; bold is bold there."""
        table = RichTable(
            title=self.title or None,
            title_justify="left",
            title_style="bold",
            box=None,
            pad_edge=False,
            header_style="dim",
            padding=(0, 2, 0, 0),
        )
        for index, name in enumerate(self.head):
            table.add_column(name, justify="right" if index else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*(_styled(cell) for cell in row))
        return table


def _styled(cell: str) -> Text:
    if cell.startswith("**") and cell.endswith("**"):
        return Text(cell.strip("*"), style="bold")
    return Text(cell)
