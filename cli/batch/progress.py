"""How far a batch is: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self, final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from cli.batch.result import RowResult
from cli.screen import cell

__all__ = ["BatchProgress"]

_WHY_CHARS_MAX = 60


@final
class BatchProgress:
    """A `cli.batch.run.Progress`; use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            expand=True,
            disable=not console.is_terminal,
        )
        self._failed = 0
        self._why = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def begun(self, rows: int, done: int) -> None:
        self._task = self._bar.add_task("", total=rows, completed=done, note="")

    def row_done(self, result: RowResult) -> None:
        self._failed += not result.is_success
        self._why = ""
        self._bar.update(self._task, advance=1, note=self._note())

    def setback(self, why: str) -> None:
        self._why = why[:_WHY_CHARS_MAX]
        self._bar.update(self._task, note=self._note())

    def _note(self) -> Text:
        note = Text()
        if self._failed:
            note.append(f"{self._failed} failed ", style="red")
        if self._why:
            note.append_text(cell(f"again: {self._why}", "yellow"))
        return note


class _Rate(ProgressColumn):
    """Rows a second, or a minute when they are slow."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        told = f"{speed:.1f} rows/s" if speed >= 1 else f"{speed * 60:.1f} rows/min"
        return Text(told, style="dim")
