"""The screen of `lepton top`. Imported only by it: textual takes a while to load."""

from __future__ import annotations

import contextlib
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final, final

from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.widgets import DataTable, Footer, Static
from textual.widgets.data_table import RowDoesNotExist

from cli.top.columns import COLUMNS, Column, shown, sorted_workers
from cli.top.picture import TopPicture, WorkerLine
from cli.top.summary import cluster_lines, worker_lines
from common.clock import Clock
from common.errors import LeptonError

__all__ = ["TopApp"]

_SPEEDS_MAX: Final = 60
"""Speeds that are remembered for the small curves."""


@final
class TopApp(App[None]):
    """Looks every `interval_s` seconds until q. While nobody answers, the last picture stays, and says so."""

    TITLE = "lepton top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #cluster { height: 2; padding: 0 1; }
    #workers { height: 1fr; }
    #details { height: auto; max-height: 50%; padding: 0 1; border-top: solid $primary; display: none; }
    #details.open { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("s", "sort", "Sort by"),
        Binding("r", "reverse", "Reverse"),
        Binding("p,space", "pause", "Pause"),
        Binding("enter", "details", "Details", priority=True),
        Binding("escape", "close", "Close", show=False),
    ]

    def __init__(
        self,
        look: Callable[[], Awaitable[TopPicture]],
        clock: Clock,
        *,
        interval_s: float,
        worker: str = "",
    ) -> None:
        super().__init__()
        self._look = look
        self._clock = clock
        self._interval_s = interval_s
        self._picture: TopPicture | None = None
        self._trouble = ""
        self._speeds: deque[float] = deque(maxlen=_SPEEDS_MAX)
        self._speeds_of: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_SPEEDS_MAX))
        self._sort = COLUMNS[0]
        self._is_reverse = False
        self._is_paused = False
        self._selected = worker
        self._is_open = bool(worker)
        self._columns: list[Column] = []
        self._rows: dict[str, WorkerLine] = {}
        """What the table shows."""
        self._width = 80

    def compose(self) -> ComposeResult:
        yield Static(id="cluster")
        yield DataTable(id="workers", cursor_type="row", zebra_stripes=True)
        yield Static(id="details")
        yield Footer()

    def on_mount(self) -> None:
        self._table.focus()
        self._watch()

    @work(exclusive=True)
    async def _watch(self) -> None:
        while True:
            if not self._is_paused:
                await self._take()
            await self._clock.sleep(self._interval_s)

    async def _take(self) -> None:
        try:
            self._picture = picture = await self._look()
        except LeptonError as error:
            self._trouble = f"{error.message}; asking again"
        else:
            self._trouble = ""
            self._speeds.append(picture.tokens_per_s)
            for gone in self._speeds_of.keys() - {worker.id for worker in picture.workers}:
                del self._speeds_of[gone]
            for worker in picture.workers:
                self._speeds_of[worker.id].append(worker.tokens_per_s)
        self._show()

    # --- keys -----------------------------------------------------------------------------------

    def action_sort(self) -> None:
        """The next column."""
        columns = self._columns or list(COLUMNS)
        place = columns.index(self._sort) if self._sort in columns else -1
        self._sort = columns[(place + 1) % len(columns)]
        self._show()

    def action_reverse(self) -> None:
        """The other way round."""
        self._is_reverse = not self._is_reverse
        self._show()

    def action_pause(self) -> None:
        """Stands still, or goes on."""
        self._is_paused = not self._is_paused
        self._show()

    def action_details(self) -> None:
        """Of the worker under the cursor; of none."""
        self._is_open = not self._is_open
        self._show()

    def action_close(self) -> None:
        """The details."""
        self._is_open = False
        self._show()

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        if event.row_key.value:
            self._selected = event.row_key.value
            self._show_details()

    def on_resize(self, event: Resize) -> None:
        self._width = event.size.width
        self._show()

    # --- what is shown --------------------------------------------------------------------------

    @property
    def _table(self) -> DataTable[object]:
        return self.query_one("#workers", DataTable)

    def _show(self) -> None:
        if not self.is_running:
            return
        trouble = "paused; p goes on" if self._is_paused else self._trouble
        lines = cluster_lines(self._picture, trouble, list(self._speeds))
        self.query_one("#cluster", Static).update(lines)
        self._show_workers()
        self._show_details()

    def _show_workers(self) -> None:
        table, selected = self._table, self._selected
        self._columns = list(shown(self._width))
        workers = sorted_workers(
            self._picture.workers if self._picture else (), self._sort, reverse=self._is_reverse
        )
        titles = [self._title(column) for column in self._columns]
        if [str(column.label) for column in table.ordered_columns] != titles:
            table.clear(columns=True)
            self._rows = {}
            for column, title in zip(self._columns, titles, strict=True):
                table.add_column(title, width=column.width, key=column.title)
        before, self._rows = self._rows, {worker.id: worker for worker in workers}
        if list(before) == list(self._rows):
            for worker in workers:
                if worker != before[worker.id]:
                    for column in self._columns:
                        table.update_cell(worker.id, column.title, column.show(worker))
            return
        offset = table.scroll_y
        table.clear()
        for worker in workers:
            table.add_row(*(column.show(worker) for column in self._columns), key=worker.id)
        self._selected = selected  # rebuilding moved the cursor to the first row
        with contextlib.suppress(RowDoesNotExist):
            table.move_cursor(row=table.get_row_index(selected), scroll=False)
        table.scroll_to(y=offset, animate=False)

    def _title(self, column: Column) -> str:
        if column is not self._sort:
            return column.title
        return f"{column.title}{'▼' if column.largest_first is not self._is_reverse else '▲'}"

    def _show_details(self) -> None:
        details = self.query_one("#details", Static)
        worker = self._worker()
        details.set_class(self._is_open and worker is not None, "open")
        if worker is not None:
            details.update(worker_lines(worker, list(self._speeds_of[worker.id])))

    def _worker(self) -> WorkerLine | None:
        workers = self._picture.workers if self._picture else ()
        return next((worker for worker in workers if worker.id == self._selected), None)
