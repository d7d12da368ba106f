"""What `lepton up` shows: steps while it starts, then only what matters."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol, final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from agent.notices import Notice, Stage
from agent.plan import ClusterPlan
from agent.roles import ETCD, ROUTER
from cli.logline import pretty_log_line
from cli.screen import marks, printable, write_json
from common.clock import Clock

__all__ = ["JsonView", "PrettyView", "UpView"]

_INDENT: Final = "  "
_HELD_LINES_MAX: Final = 1000


class UpView(Protocol):
    """Takes what happens, in order, on the event loop."""

    def notice(self, notice: Notice) -> None:
        """One thing happened to a process."""
        ...

    def started(self) -> None:
        """The start has ended, well or not; whatever moved on the screen stands still from here on."""
        ...

    def quiet(self) -> AbstractContextManager[None]:
        """An answer streams: what happens meanwhile is shown after the block, never between its words."""
        ...

    def stopping(self) -> None:
        """Everything ends now, in order."""
        ...


@final
class JsonView:
    """One JSON object for each thing that happens."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose

    def notice(self, notice: Notice) -> None:
        if notice.stage is Stage.OUTPUT and not self._verbose:
            return
        record: dict[str, object] = {"event": f"process.{notice.stage.value}", "name": notice.name}
        if notice.facts:
            record["facts"] = dict(notice.facts)
        for key in ("text", "took_s", "delay_s"):
            value = getattr(notice, key)
            if value not in (None, ""):
                record[key] = round(value, 3) if isinstance(value, float) else value
        write_json(record)

    def started(self) -> None:
        pass

    def quiet(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def stopping(self) -> None:
        write_json({"event": "cluster.stopping"})


@dataclass(slots=True)
class _Step:
    what: str
    state: Stage | None = None
    where: str = ""
    took_s: float | None = None
    note: str = ""


@final
class PrettyView:
    """For people: a list of steps that fill in, afterwards a line with the time for each change."""

    def __init__(self, plan: ClusterPlan, console: Console, clock: Clock, *, verbose: bool) -> None:
        self._console = console
        self._clock = clock
        self._verbose = verbose
        self._starting = True
        self._ending = False
        self._spinner = Spinner("dots", style="cyan")
        self._held: deque[Text] | None = None
        self._done, self._failed, self._waiting = marks(console)
        self._steps = {name: _Step(what) for name, what in _steps(plan)}
        # A terminal gets a picture that changes in place; a file or pipe gets lines. Log lines would tear the picture.
        self._live: Live | None = None
        if console.is_terminal and not verbose:
            self._live = Live(self, console=console, refresh_per_second=12, transient=False)
            self._live.start()

    def __rich__(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        table.add_column(width=3, justify="right")
        for _ in range(3):
            table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        notes = []
        for name, step in self._steps.items():
            took = f"{step.took_s:.1f} s" if step.took_s is not None else ""
            table.add_row(
                self._mark(step),
                Text(name, style="bold"),
                Text(step.what),
                Text(step.where, style="cyan"),
                Text(took, style="dim"),
            )
            if step.note:
                notes.append(Text(f"{_INDENT}{self._failed}  {name}: {step.note}", style="yellow"))
        return Group(table, *notes)

    def notice(self, notice: Notice) -> None:
        if notice.stage is Stage.OUTPUT:
            if self._verbose:
                line = Text(f"{_INDENT}{notice.name:<7}", style="dim")
                self._print(line.append_text(pretty_log_line(notice.text)))
        elif self._starting:
            self._fill_in(notice)
        elif not self._ending:
            self._tell(notice)

    def started(self) -> None:
        self._starting = False
        if self._live is not None:
            self._live.stop()
            self._live = None

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        self._held = deque(maxlen=_HELD_LINES_MAX)
        try:
            yield
        finally:
            held, self._held = self._held, None
            for line in held:
                self._print(line)

    def stopping(self) -> None:
        self.started()
        self._ending = True

    def _fill_in(self, notice: Notice) -> None:
        step = self._steps[notice.name]
        step.state = notice.stage
        if notice.stage is Stage.READY:
            step.where, step.took_s = notice.facts.get("address", ""), notice.took_s
            step.note = ""
            if self._live is None:
                took = f"{notice.took_s:.1f} s" if notice.took_s is not None else ""
                self._print(
                    Text(
                        f"{_INDENT}{self._done}  {notice.name:<6}  {step.what:<24}  {step.where}  {took}"
                    )
                )
        elif notice.stage is Stage.ENDED:
            step.note = f"{printable(notice.text)}; starting again"
            if self._live is None:
                self._print(Text(f"{_INDENT}{self._failed}  {notice.name:<6}  {step.note}"))

    def _tell(self, notice: Notice) -> None:
        if notice.stage is Stage.READY:
            where = notice.facts.get("address", "")
            self._event(notice.name, f"serves again at {where}", "green")
        elif notice.stage is Stage.ENDED:
            delay = f"{notice.delay_s:.1f} s" if notice.delay_s is not None else "a moment"
            self._event(notice.name, f"{printable(notice.text)}; starts again in {delay}", "yellow")
        elif notice.stage is Stage.GIVEN_UP:
            self._event(notice.name, f"given up: {printable(notice.text)}", "red")

    def _event(self, name: str, text: str, style: str) -> None:
        at = time.strftime("%H:%M:%S", time.localtime(self._clock.wall()))
        line = Text(f"{_INDENT}{at}  ", style="dim")
        line.append(f"{name:<7} ", style="bold").append(text, style=style)
        self._print(line)

    def _print(self, line: Text) -> None:
        if self._held is not None:
            self._held.append(line)
        else:
            self._console.print(line, soft_wrap=True)

    def _mark(self, step: _Step) -> RenderableType:
        if step.state is Stage.READY:
            return Text(self._done, style="green")
        if step.state is Stage.GIVEN_UP:
            return Text(self._failed, style="red")
        if step.state is None or not self._starting:
            return Text(self._waiting, style="dim")
        return self._spinner


def _steps(plan: ClusterPlan) -> list[tuple[str, str]]:
    steps = [(ETCD, "registry")] if plan.etcd else []
    for worker in plan.workers:
        threads = f"{worker.threads} thread{'s' * (worker.threads != 1)}"
        steps.append((worker.name, f"{worker.model.name}, {threads}"))
    return [*steps, (ROUTER, "front door")]
