"""What `lepton up` says of the whole cluster: where it is, a first answer with its trace, what to do next."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol, final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from agent.plan import ClusterPlan
from agent.state import default_state_dir
from cli.answer import AnswerStats, stream_answer, summary
from cli.client import Client
from cli.outcome import error_record, show_error
from cli.request import GenerateOptions, build_request, chat_message
from cli.screen import printable, write, write_json
from cli.traces import wait_trace
from cli.wrap import WordWrap
from common.clock import Clock
from common.errors import LeptonError
from common.release import release
from common.telemetry.waterfall import TraceSpans, render, to_json
from lepton.v1 import inference_pb2

__all__ = ["JsonReport", "PrettyReport", "Report"]

_GREETING_TOKENS_MAX: Final = 96
"""A model of a billion parameters takes seconds for them, a model without an end would fill the screen."""
_PROMPT_CHARS: Final = 200
_COLLECTOR: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Report(Protocol):
    """Called in this order; after a failure, straight on to `stopping`."""

    def ready(self, *, took_s: float, http_address: str) -> None:
        """`http_address`: host:port of the router's HTTP door, "" when it has none."""
        ...

    async def first_answer(self, prompt: str, clock: Clock, *, must_work: bool) -> None:
        """Asks once. An error is raised when `must_work`, else shown: the cluster may still be of use."""
        ...

    def next_steps(self) -> None: ...

    def stopping(self, *, patient: bool) -> None:
        """Everything ends; `patient`: a user asked for it while calls may run."""
        ...

    def stopped(self) -> None: ...


@final
class JsonReport:
    """One object a line."""

    def __init__(self, plan: ClusterPlan) -> None:
        self._plan = plan

    def ready(self, *, took_s: float, http_address: str) -> None:
        plan = self._plan
        write_json(
            {
                "event": "cluster.ready",
                "address": plan.address,
                "advertise": plan.advertise,
                "http_address": http_address or None,
                "metrics_address": plan.metrics_address,
                "registry": plan.etcd.ports.endpoint if plan.etcd else str(plan.state.registry),
                "models": sorted({worker.model.name for worker in plan.workers}),
                "workers": len(plan.workers),
                "state_dir": str(plan.state.path),
                "took_s": round(took_s, 3),
            }
        )

    async def first_answer(self, prompt: str, clock: Clock, *, must_work: bool) -> None:
        try:
            async with Client(self._plan.address) as client:
                answer = client.generate(_first_request(self._plan, prompt, brief=not must_work))
                stats = await stream_answer(answer, clock)
        except LeptonError as error:
            if must_work:
                raise
            write_json({"event": "cluster.first_answer_failed", **error_record(error)})
            return
        spans = await _spans(self._plan.state.traces, stats, clock)
        write_json(
            {
                "event": "cluster.first_answer",
                "prompt": prompt,
                "text": stats.texts[0] if stats.texts else "",
                "completion_tokens": stats.completion_tokens,
                "first_s": stats.first_s,
                "tokens_per_s": stats.tokens_per_s,
                "trace_id": stats.trace_id,
                "spans": to_json(spans) if spans else [],
            }
        )

    def next_steps(self) -> None:
        pass

    def stopping(self, *, patient: bool) -> None:
        pass

    def stopped(self) -> None:
        write_json({"event": "cluster.stopped"})


@final
class PrettyReport:
    """For people."""

    def __init__(self, plan: ClusterPlan, console: Console) -> None:
        self._plan = plan
        self._console = console
        self._trace_id = ""
        self._http_address = ""
        self._model = plan.workers[0].model.name

    def title(self) -> None:
        """Before anything happens."""
        print_ = self._console.print
        print_()
        print_(Text("  Lepton ", style="bold").append(release(), style="dim not bold"))
        if self._plan.etcd is None:
            note = "no etcd program found or wanted: a directory serves as the registry"
            print_(Text(f"  {note} ({self._plan.state.registry})", style="yellow"))
        print_()

    def ready(self, *, took_s: float, http_address: str) -> None:
        plan, table = self._plan, _grid()
        table.add_row("gRPC", Text(plan.address, style="cyan"))
        if plan.advertise != plan.address:
            table.add_row("", Text(f"{plan.advertise} for others", style="cyan"))
        self._http_address = http_address
        if http_address:
            table.add_row("REST", Text(f"http://{http_address}/v1", style="cyan"))
            table.add_row("page", Text(f"http://{http_address}/", style="cyan"))
        table.add_row("metrics", Text(f"http://{plan.metrics_address}/metrics", style="cyan"))
        table.add_row("logs", Text(_short(plan.state.logs), style="cyan"))
        self._console.print()
        self._console.print(Text(f"  Ready in {took_s:.1f} s", style="bold green"))
        self._console.print()
        self._console.print(Padding(table, (0, 0, 1, 2), expand=False))

    async def first_answer(self, prompt: str, clock: Clock, *, must_work: bool) -> None:
        shown = printable(prompt if len(prompt) <= _PROMPT_CHARS else prompt[:_PROMPT_CHARS] + " …")
        self._console.print(Text("  > ", style="dim").append(shown, style="bold"), soft_wrap=True)
        wrap = WordWrap(width=self._console.width, indent="  ")
        try:
            async with Client(self._plan.address) as client:
                answer = client.generate(_first_request(self._plan, prompt, brief=not must_work))
                stats = await stream_answer(
                    answer, clock, on_text=lambda _, text: write(wrap.push(text))
                )
        except LeptonError as error:
            write(wrap.end() + "\n")
            if must_work:
                raise
            show_error(error)
            return
        write(wrap.end() + "\n")
        self._trace_id = stats.trace_id
        self._console.print(Text(f"  {summary(stats)}", style="dim"))
        self._console.print()
        await self._draw(stats, clock)

    def next_steps(self) -> None:
        plan = self._plan
        usual = plan.state.path == default_state_dir(os.environ, Path.cwd())
        where = "" if usual else f" --state-dir {_short(plan.state.path)}"
        lepton = own_command(sys.argv[0], Path.cwd(), os.environ)
        commands = [
            (f'{lepton} generate "What is 17 + 25?"{where}', "one answer, streamed"),
            (f"{lepton} chat{where}", "a conversation"),
            (f"{lepton} top{where}", "workers and load, live"),
            (f"{lepton} trace {self._trace_id[:12]}".rstrip() + where, "where its time went"),
        ]
        if self._http_address:
            base = f"export OPENAI_BASE_URL=http://{self._http_address}/v1 OPENAI_API_KEY=none"
            commands.append((base, "for OpenAI's clients"))
        self._console.print(Text("  In another terminal", style="bold"))
        self._console.print()
        width = max(len(command) for command, _ in commands)
        for command, what in commands:
            line = (
                Text("  ")
                .append(command.ljust(width), style="cyan")
                .append(f"  {what}", style="dim")
            )
            self._console.print(line, soft_wrap=True)  # a command is to be pasted: never cut
        self._console.print()
        self._console.print(Text("  Ctrl-C ends the cluster.", style="dim"))
        self._console.print()

    def stopping(self, *, patient: bool) -> None:
        if patient:
            self._console.print(
                Text("\n  Stopping: calls that run are finished first. ", style="bold").append(
                    "Ctrl-C again stops at once.", style="dim not bold"
                )
            )

    def stopped(self) -> None:
        self._console.print(Text("  Stopped.", style="dim"))

    async def _draw(self, stats: AnswerStats, clock: Clock) -> None:
        if _COLLECTOR in os.environ:
            where = f"  Its trace went to the collector at {os.environ[_COLLECTOR]}."
            self._console.print(Text(where, style="dim"))
        elif spans := await _spans(self._plan.state.traces, stats, clock):
            self._console.print(Padding(render(spans), (0, 0, 0, 2), expand=False))
        self._console.print()


def _grid() -> Table:
    table = Table.grid(padding=(0, 3))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    return table


def _first_request(plan: ClusterPlan, prompt: str, *, brief: bool) -> inference_pb2.GenerateRequest:
    """`brief`: a greeting that nobody asked for; what to type next stands below it."""
    options = GenerateOptions(
        model=plan.workers[0].model.name, max_tokens=_GREETING_TOKENS_MAX if brief else None
    )
    return build_request([chat_message("user", prompt)], options)


async def _spans(folder: Path, stats: AnswerStats, clock: Clock) -> TraceSpans | None:
    if not stats.trace_id or _COLLECTOR in os.environ:
        return None
    return await wait_trace(folder, stats.trace_id, clock)


def own_command(program: str, folder: Path, env: Mapping[str, str]) -> str:
    """What to type to call this very program from `folder`: its name when PATH leads to it, else its path."""
    path = Path(program).absolute()
    if path.name != "lepton":
        return "lepton"  # started as a module; the installed command is what people have
    found = shutil.which("lepton", path=env.get("PATH", ""))
    if found and Path(found).resolve() == path.resolve():
        return "lepton"
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _short(path: Path) -> str:
    """Relative where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
