"""What `lepton chaos` shows: streams while they run, kills, gaps; ledgers and tables afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self, final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from chaos.outcome import Outcome
from chaos.record import Record
from chaos.scenario import Scenario
from chaos.words import VERDICTS, measured, named, promised, shown

__all__ = ["LiveView", "ledger", "outcomes_table", "scenarios"]

_COLOURS: Final = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green")
_CELLS: Final = 10
_COLUMNS: Final = 4
_STALLED_S: Final = 0.25
_VERDICT_STYLES: Final = {"pass": "bold green", "fail": "bold red", "void": "bold yellow"}


@final
class LiveView:
    """`chaos.live.Watching` on a terminal: a bar per stream in the colour of its worker, red while it waits.

    Without a terminal it writes a line per event.
    """

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._colours: dict[str, str] = {}
        self._lines: list[Text] = []
        self._began: float | None = None
        self._live = (
            Live(console=console, refresh_per_second=20, transient=True)
            if console.is_terminal and not quiet
            else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def told(self, line: str) -> None:
        """See `Watching`."""
        self._note(Text(line, style="dim"))

    def killed(self, worker_id: str, at: float) -> None:
        """See `Watching`."""
        after = "" if self._began is None else f"{at - self._began:6.1f} s  "
        self._note(Text(after, style="dim").append(f"SIGKILL {worker_id}", style="bold red"))

    def tick(self, streams: list[Record | None], now: float) -> None:
        """See `Watching`."""
        self._began = self._began or now
        if self._live is not None:
            self._live.update(Group(*self._lines[-6:], Text(), self._grid(streams, now)))

    def _note(self, line: Text) -> None:
        self._lines.append(line)
        if self._live is None and not self._quiet:
            self._console.print(line)

    def _grid(self, streams: list[Record | None], now: float) -> Table:
        table = Table.grid(padding=(0, 2))
        for start in range(0, len(streams), _COLUMNS):
            row = streams[start : start + _COLUMNS]
            table.add_row(*(self._cell(start + i + 1, one, now) for i, one in enumerate(row)))
        return table

    def _cell(self, number: int, record: Record | None, now: float) -> Text:
        cell = Text(f"{number:3d} ", style="dim")
        if record is None or not record.received:
            return cell.append("·" * _CELLS, style="dim").append("        ")
        worker = record.worker_at(now)
        style = self._colours.setdefault(worker, _COLOURS[len(self._colours) % len(_COLOURS)])
        most = record.request.stop.max_tokens * max(1, record.request.sampling.n)
        full = min(_CELLS, round(_CELLS * record.num_tokens / max(1, most)))
        silent_s = now - record.received[-1].at
        if record.code not in ("", "OK"):
            style, worker = "bold red", record.reason[:7].lower()
        elif not record.code and silent_s > _STALLED_S:
            style, worker = "red", f"{silent_s * 1e3:.0f} ms"
        elif record.migrations:
            worker += "↺"
        cell.append("━" * full, style=style).append("·" * (_CELLS - full), style="dim")
        return cell.append(f" {worker[:7]:7}", style=style)


def ledger(outcome: Outcome) -> RenderableType:
    """One outcome in full: every measure, what was promised of it, errors, the first stories."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("ledger", style="bold")
    table.add_column("measured", justify="right")
    table.add_column("promised", justify="right", style="dim")
    for name, value in outcome.measures.items():
        bound = outcome.expect.get(name)
        bad = name in {line.split(" ", 1)[0] for line in outcome.why}
        table.add_row(
            named(name),
            Text(shown(name, value), style="bold red" if bad else ""),
            "" if bound is None else f"≤ {shown(name, bound)}",
        )
    for reason, num in outcome.errors.items():
        table.add_row(f"error {reason}", str(num), "")
    parts: list[RenderableType] = [Text(outcome.title, style="bold"), Text(), table]
    parts += [Text(story, style="dim") for story in outcome.stories[:5]]
    verdict = Text(VERDICTS[outcome.verdict], style=_VERDICT_STYLES[outcome.verdict])
    if outcome.why:
        verdict.append(": " + "; ".join(outcome.why), style="not bold")
    return Group(*parts, Text(), verdict.append(f"  (seed {outcome.seed})", style="dim not bold"))


def outcomes_table(outcomes: Sequence[Outcome]) -> Table:
    """One line per run."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for title in ("promise", "scenario", "promised", "measured", "verdict"):
        table.add_column(title, overflow="fold")
    for outcome in outcomes:
        style = _VERDICT_STYLES[outcome.verdict]
        name = outcome.scenario + (" (protection off)" if outcome.control else "")
        verdict = VERDICTS[outcome.verdict]
        if outcome.control:
            style = "bold green" if outcome.is_right else "bold red"
            verdict = "fails, as it must" if outcome.is_right else "DOES NOT FAIL"
        table.add_row(
            outcome.promise,
            Text(name, style="bold"),
            promised(outcome),
            measured(outcome) + ("\n" + "; ".join(outcome.why) if outcome.why else ""),
            Text(verdict, style=style),
        )
    return table


def scenarios(found: Sequence[Scenario]) -> Table:
    """Name, promise, what happens."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for title in ("scenario", "promise", "what happens", "control"):
        table.add_column(title, overflow="fold")
    for one in found:
        switched = one.control.settings.items() if one.control else ()
        off = " ".join(f"{key}={value}" for key, value in switched)
        table.add_row(Text(one.name, style="bold"), one.promise, f"{one.title}. {one.says}", off)
    return table
