"""What `lepton up` shows, from values."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from agent.etcd import EtcdPorts
from agent.models import ModelChoice
from agent.notices import Notice, Stage
from agent.plan import ClusterPlan, EtcdPlan, WorkerPlan
from agent.state import StateDir
from cli.logline import pretty_log_line
from cli.up_view import JsonView, PrettyView
from common.cluster import ClusterSettings
from tests.support.manual_clock import ManualClock


@pytest.fixture
def plan(tmp_path: Path) -> ClusterPlan:
    model = ModelChoice(name="demo", folder=tmp_path)
    return ClusterPlan(
        state=StateDir(tmp_path),
        host="127.0.0.1",
        port=50051,
        http_port=8080,
        metrics_port=8081,
        address="127.0.0.1:50051",
        advertise="127.0.0.1:50051",
        etcd=EtcdPlan(program=tmp_path / "etcd", ports=EtcdPorts(client=1, peer=2)),
        workers=(WorkerPlan(name="w1", model=model, threads=2),),
        cluster=ClusterSettings(),
        config=None,
        env={},
    )


def _console(*, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)


def _lines(console: Console) -> list[str]:
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def _ready(name: str) -> Notice:
    return Notice(name=name, stage=Stage.READY, facts={"address": "127.0.0.1:7"}, took_s=0.25)


def test_without_a_terminal_each_step_is_a_line(plan: ClusterPlan) -> None:
    console = _console()
    view = PrettyView(plan, console, ManualClock(), verbose=False)
    view.notice(Notice(name="etcd", stage=Stage.STARTING))
    view.notice(_ready("etcd"))
    view.notice(Notice(name="w1", stage=Stage.ENDED, text="killed by SIGKILL", delay_s=1.0))
    view.notice(_ready("w1"))
    first, second, third = _lines(console)
    assert first.split() == ["✓", "etcd", "registry", "127.0.0.1:7", "0.2", "s"]
    assert second.split() == ["✗", "w1", "killed", "by", "SIGKILL;", "starting", "again"]
    assert third.split() == ["✓", "w1", "demo,", "2", "threads", "127.0.0.1:7", "0.2", "s"]


def test_the_picture_shows_every_step_and_why_one_waits(plan: ClusterPlan) -> None:
    view = PrettyView(plan, _console(), ManualClock(), verbose=False)
    view.notice(_ready("etcd"))
    view.notice(Notice(name="w1", stage=Stage.ENDED, text="ended with code 1", delay_s=1.0))
    view.started()
    console = _console()
    console.print(view)
    etcd, worker, router, note = _lines(console)
    assert etcd.split()[:2] == ["✓", "etcd"]
    assert worker.split()[:2] == ["·", "w1"]
    assert router.split()[:2] == ["·", "router"]
    assert note.split() == ["✗", "w1:", "ended", "with", "code", "1;", "starting", "again"]


def test_a_running_cluster_tells_changes_with_the_time(plan: ClusterPlan) -> None:
    console = _console()
    view = PrettyView(plan, console, ManualClock(), verbose=False)
    view.started()
    view.notice(Notice(name="w1", stage=Stage.ENDED, text="killed by SIGKILL", delay_s=0.2))
    view.notice(Notice(name="w1", stage=Stage.STARTING))
    view.notice(_ready("w1"))
    view.notice(Notice(name="w1", stage=Stage.GIVEN_UP, text="w1 ended 5 times in 3 s"))
    view.stopping()
    view.notice(Notice(name="w1", stage=Stage.STOPPED))
    told = [line.split(None, 1)[1] for line in _lines(console)]
    assert told == [
        "w1      killed by SIGKILL; starts again in 0.2 s",
        "w1      serves again at 127.0.0.1:7",
        "w1      given up: w1 ended 5 times in 3 s",
    ]


def test_nothing_comes_between_the_words_of_an_answer(plan: ClusterPlan) -> None:
    console = _console()
    view = PrettyView(plan, console, ManualClock(), verbose=True)
    view.started()
    with view.quiet():
        view.notice(Notice(name="w1", stage=Stage.OUTPUT, text="hello"))
        view.notice(Notice(name="w1", stage=Stage.ENDED, text="gone", delay_s=1.0))
        assert _lines(console) == []
    assert len(_lines(console)) == 2


def test_output_is_shown_only_when_asked_for(plan: ClusterPlan) -> None:
    for verbose, lines in ((False, 0), (True, 1)):
        console = _console()
        view = PrettyView(plan, console, ManualClock(), verbose=verbose)
        view.notice(Notice(name="w1", stage=Stage.OUTPUT, text="hello"))
        assert len(_lines(console)) == lines


def test_json_has_one_object_per_change(capsys: pytest.CaptureFixture[str]) -> None:
    view = JsonView(verbose=False)
    view.notice(Notice(name="w1", stage=Stage.OUTPUT, text="hello"))
    view.notice(_ready("w1"))
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {
        "event": "process.ready",
        "name": "w1",
        "facts": {"address": "127.0.0.1:7"},
        "took_s": 0.25,
    }


def test_log_lines_are_made_readable_and_harmless() -> None:
    record = {
        "ts": "2026-01-02T03:04:05.678901+00:00",
        "level": "info",
        "event": "worker.registered",
        "logger": "worker",
        "worker_id": "w1",
        "rows": 4,
        "text": "a\x1b[31mb",
    }
    line = pretty_log_line(json.dumps(record)).plain
    assert line == "03:04:05.678 worker.registered worker_id=w1 rows=4 text=a[31mb"
    assert pretty_log_line("plain \x07text").plain == "plain text"
    assert pretty_log_line("[1, 2]").plain == "[1, 2]"
