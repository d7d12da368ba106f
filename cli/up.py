"""`lepton up`: a whole cluster on this machine until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from cli.options import ConfigOption, JsonOption, StateDirOption
from cli.outcome import INTERRUPTED, reported

if TYPE_CHECKING:
    from agent.cluster import LocalCluster
    from agent.plan import ClusterPlan
    from agent.settings import AgentSettings
    from cli.up_view import UpView
    from common.cluster import ClusterSettings

__all__ = ["up"]

_GREETING: Final = "What is Lepton?"

T = TypeVar("T")


def up(
    *,
    workers: Annotated[
        int, typer.Option("--workers", "-w", min=1, help="Worker processes for each model.")
    ] = 2,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="DIR | NAME=DIR",
            show_default=False,
            help="Model folder; repeat it for more. Default: the demo model.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            "-p",
            min=0,
            max=65535,
            envvar="LEPTON_ROUTER_PORT",
            show_default="50051",
            help="gRPC port of the router; 0 takes a free one.",
        ),
    ] = None,
    http_port: Annotated[
        int | None,
        typer.Option(
            "--http-port",
            min=0,
            max=65535,
            envvar="LEPTON_GATEWAY_PORT",
            show_default=False,
            help="Port of REST, WebSocket and the page. Default: 8080, or a free one when that is taken.",
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            min=0,
            max=65535,
            envvar="LEPTON_ROUTER_METRICS_PORT",
            show_default=False,
            help="Port of the router's /metrics. Default: 8081, or a free one when that is taken.",
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            envvar="LEPTON_ROUTER_HOST",
            show_default="127.0.0.1",
            help="Where the router listens.",
        ),
    ] = None,
    advertise: Annotated[
        str,
        typer.Option(
            "--advertise",
            metavar="ADDR",
            show_default=False,
            help="Name or address by which others reach this machine; told to people, beside --host.",
        ),
    ] = "",
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Allow --host beyond loopback without TLS: anyone may then use it."
        ),
    ] = False,
    etcd: Annotated[
        str,
        typer.Option(
            "--etcd",
            metavar="PROGRAM | none",
            show_default=False,
            help="etcd to run. Default: from PATH, else the one of the `local` extra, else none: a "
            "directory serves as the registry.",
        ),
    ] = "",
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    once: Annotated[
        str | None,
        typer.Option(
            "--once",
            metavar="PROMPT",
            show_default=False,
            help="Answer this, show the trace, and end.",
        ),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Like --once with a question of ours.")
    ] = False,
    oracle: Annotated[
        bool,
        typer.Option(
            "--oracle",
            help="Workers without a model, for `lepton chaos`: every token is a pure function of the request.",
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show what the processes log.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Start a cluster on this machine.

    That is etcd, a router and workers. What dies is started again; Ctrl-C ends all of it.
    """
    with reported(as_json=as_json):
        from agent.listen import listen_of
        from agent.models import choose_models, find_demo
        from agent.plan import make_plan
        from cli.target import find_state_dir

        settings, cluster = _settings(config, etcd=etcd, state_dir=state_dir, insecure=insecure)
        wanted = listen_of(config)
        state = find_state_dir(settings.state_dir)
        env = dict(os.environ)
        if oracle:
            env["LEPTON_WORKER_ENGINE"] = "oracle"
            model = model or [f"oracle={find_demo().folder}"]  # only the name of it is used
        models = choose_models(model or [])
        with state.lock():
            plan = make_plan(
                state=state,
                settings=settings,
                models=models,
                workers=workers,
                host=_first(host, wanted.host, "127.0.0.1"),
                port=_first(port, wanted.port, 50051),
                http_port=_first(http_port, wanted.http_port, None),
                metrics_port=_first(metrics_port, wanted.metrics_port, None),
                advertise=advertise,
                cluster=cluster,
                config=config.absolute() if config else None,
                env=env,
            )
            prompt = once if once is not None else _GREETING
            wish = _Wish(prompt=prompt, ends=demo or once is not None, verbose=verbose)
            code = asyncio.run(_run(plan, settings, wish, as_json=as_json))
    raise typer.Exit(code)


def _first(option: T | None, in_file: T | None, otherwise: T) -> T:
    """An option (or its variable) outweighs the file, which outweighs the default."""
    if option is not None:
        return option
    return in_file if in_file is not None else otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    prompt: str
    ends: bool
    """End after the first answer."""
    verbose: bool


def _settings(
    config: Path | None, *, etcd: str, state_dir: Path | None, insecure: bool
) -> tuple[AgentSettings, ClusterSettings]:
    from agent.settings import AgentSettings
    from common.cluster import ClusterSettings
    from common.settings import load

    flags: dict[tuple[str, str], str] = {}
    if etcd:
        flags["agent", "etcd_binary"] = etcd
    if state_dir:
        flags["agent", "state_dir"] = str(state_dir)
    if insecure:
        flags["cluster", "insecure"] = "true"
    sections = load(
        {"agent": AgentSettings, "cluster": ClusterSettings},
        file=config,
        env=os.environ,
        flags=flags,
    )
    return sections["agent"], sections["cluster"]


async def _run(plan: ClusterPlan, settings: AgentSettings, wish: _Wish, *, as_json: bool) -> int:
    from agent.cluster import LocalCluster
    from cli.screen import out
    from cli.up_report import JsonReport, PrettyReport, Report
    from cli.up_view import JsonView, PrettyView
    from common.clock import SystemClock

    clock = SystemClock()
    report: Report
    view: UpView
    if as_json:
        report, view = JsonReport(plan), JsonView(verbose=wish.verbose)
    else:
        report = PrettyReport(plan, out())
        report.title()
        view = PrettyView(plan, out(), clock, verbose=wish.verbose)
    cluster = LocalCluster(plan, settings=settings, clock=clock, notify=view.notice)
    interrupted = False
    signals = _Signals(cluster)
    with signals.heeded():
        try:
            began = clock.now()
            try:
                await cluster.start()
            finally:
                view.started()
            report.ready(took_s=clock.now() - began, http_address=cluster.state.http_address)
            with view.quiet():
                await report.first_answer(wish.prompt, clock, must_work=wish.ends)
            if wish.ends:
                return 0
            report.next_steps()
            raise await cluster.wait_broken()
        except asyncio.CancelledError:
            interrupted = True
            return 0 if cluster.started else INTERRUPTED
        finally:
            signals.ending()
            try:
                view.stopping()
                report.stopping(patient=interrupted and cluster.started)
            finally:  # also when there is no terminal left to write to
                await cluster.stop()
            report.stopped()


class _Signals:
    """The first Ctrl-C or SIGTERM ends everything in order; the next, or one that comes while it ends, at once."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self._task = asyncio.current_task()
        self._ending = False

    @contextlib.contextmanager
    def heeded(self) -> Iterator[None]:
        """Within the block."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def ending(self) -> None:
        """What has begun to end must not be cancelled half-way."""
        self._ending = True

    def _on_signal(self) -> None:
        if self._ending:
            self._cluster.kill()
        elif self._task is not None:
            self._ending = True
            self._task.cancel()
