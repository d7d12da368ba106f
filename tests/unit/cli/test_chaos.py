"""`lepton chaos` without any cluster: the list, errors, ledgers on a terminal."""

from __future__ import annotations

import io
import json

from rich.console import Console
from typer.testing import CliRunner

from chaos.injection import Injection
from chaos.outcome import Outcome
from chaos.record import Received, Record
from chaos.scenario import names
from cli.chaos_view import LiveView, ledger, outcomes_table
from cli.main import app
from lepton.v1 import inference_pb2

OUTCOME = Outcome(
    scenario="kill-worker",
    promise="P01",
    title="a kill",
    seed=3,
    control=False,
    verdict="fail",
    why=("lost is 2, promised 0",),
    measures={"lost": 2, "requests": 40, "tokens": 900, "recover_ms": float("inf")},
    expect={"lost": 0, "recover_ms": 5000},
    errors={"WORKER_LOST": 2},
    stories=("greedy-1: UNAVAILABLE",),
    injections=(Injection(at=1.0, what="SIGKILL", victims=("w1",), in_flight=40, hit=9),),
)


def drawn(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_list_shows_every_scenario() -> None:
    result = CliRunner().invoke(app, ["chaos", "list", "--json"])
    assert result.exit_code == 0
    assert [one["name"] for one in json.loads(result.stdout)] == list(names())


def test_an_unknown_scenario_is_wrong_and_says_where_to_look() -> None:
    result = CliRunner().invoke(app, ["chaos", "run", "no-such", "--json"])
    assert result.exit_code == 2
    assert "lepton chaos list" in result.stdout


def test_a_ledger_names_what_was_broken_by_how_much_and_the_seed() -> None:
    text = drawn(ledger(OUTCOME))
    for words in ("BROKEN: lost is 2, promised 0", "WORKER_LOST", "never", "seed 3"):
        assert words in text


def test_a_table_has_a_line_per_run() -> None:
    text = drawn(outcomes_table([OUTCOME]))
    assert "2 lost of 40 requests" in text
    assert "BROKEN" in text
    assert json.dumps(OUTCOME.as_json())  # infinity is no JSON


def test_the_live_view_draws_streams_that_run_wait_move_and_failed() -> None:
    def stream(*events: tuple[float, inference_pb2.Event], code: str = "") -> Record:
        request = inference_pb2.GenerateRequest(stop={"max_tokens": 4})
        record = Record(name="r", kind="k", request=request, sent_at=0, deadline_s=9)
        record.received = [Received(at, event) for at, event in events]
        record.code, record.reason = code, "WORKER_LOST" if code else ""
        return record

    started = inference_pb2.Event(started={"worker_id": "w1"})
    token = inference_pb2.Event(delta={"token_ids": [1, 2]})
    moved = inference_pb2.Event(migrated={"from_worker_id": "w1", "to_worker_id": "w2"})
    view = LiveView(Console(file=io.StringIO()), quiet=True)
    text = drawn(
        view._grid(
            [
                None,
                stream((1.0, started), (4.9, token)),
                stream((1.0, started), (4.0, token)),
                stream((1.0, started), (1.1, token), (4.9, moved)),
                stream((1.0, started), code="UNAVAILABLE"),
            ],
            5.0,
        )
    )
    assert "━━━━━····· w1" in text
    assert "1000 ms" in text
    assert "w2↺" in text
    assert "worker_" in text
