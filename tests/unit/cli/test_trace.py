"""`lepton trace`: which call, drawn or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from cli.traces import last_generation, wait_trace
from common.clock import SystemClock

Lepton = Callable[..., Result]

GENERATE = "lepton.v1.InferenceService/Generate"
LIST = "lepton.v1.InferenceService/ListModels"


def _span(trace: str, span: str, parent: str | None, name: str, service: str, at: int) -> str:
    return (
        json.dumps(
            {
                "trace_id": trace * 32,
                "span_id": span * 16,
                "parent_id": parent * 16 if parent else None,
                "name": name,
                "service": service,
                "instance": service,
                "start_unix_ns": at * 1_000_000,
                "end_unix_ns": (at + 5) * 1_000_000,
                "kind": "server",
                "status": "unset",
            },
            separators=(",", ":"),
        )
        + "\n"
    )


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    folder = tmp_path / "state" / "traces"
    folder.mkdir(parents=True)
    (folder / "spans-lepton-router-r-1.jsonl").write_text(
        _span("a", "1", None, GENERATE, "lepton-router", 10)
        + _span("b", "2", None, GENERATE, "lepton-router", 20)
        + _span("c", "3", None, LIST, "lepton-router", 30)
        + '{"name":"lepton.v1.InferenceService/Generate", cut'
    )
    (folder / "spans-lepton-worker-w-2.jsonl").write_text(
        _span("b", "4", "2", GENERATE, "lepton-worker", 21)
    )
    return folder


def test_the_default_is_the_last_generation_not_the_last_call(lepton: Lepton, traces: Path) -> None:
    assert last_generation(traces) == "b" * 32
    done = lepton("trace")
    assert done.exit_code == 0
    assert "b" * 32 in done.stdout
    assert "lepton-worker" in done.stdout


def test_a_file_that_cannot_be_read_costs_its_lines_only(lepton: Lepton, traces: Path) -> None:
    """One that is rotated away while we read looks the same."""
    (traces / "spans-gone.jsonl").mkdir()
    done = lepton("trace")
    assert done.exit_code == 0, done.stderr
    assert "b" * 32 in done.stdout


def test_a_trace_by_the_beginning_of_its_id(lepton: Lepton, traces: Path) -> None:
    done = lepton("trace", "aaaa", "--json")
    data = json.loads(done.stdout)
    assert data["trace_id"] == "a" * 32
    assert [span["name"] for span in data["spans"]] == [GENERATE]


def test_a_trace_that_is_not_there(lepton: Lepton, traces: Path) -> None:
    done = lepton("trace", "ffff")
    assert done.exit_code == 2
    assert "error:" in done.stderr


def test_no_traces_at_all(lepton: Lepton) -> None:
    done = lepton("trace")
    assert done.exit_code == 2
    assert "error:" in done.stderr


async def test_waiting_ends_when_both_processes_have_spoken(traces: Path) -> None:
    spans = await wait_trace(traces, "b" * 32, SystemClock(), within_s=10)
    assert spans is not None
    assert {span.service for span in spans} == {"lepton-router", "lepton-worker"}


async def test_waiting_has_a_bound_and_gives_what_is_there(traces: Path) -> None:
    spans = await wait_trace(traces, "a" * 32, SystemClock(), within_s=0.2)
    assert spans is not None
    assert len(spans) == 1
    assert await wait_trace(traces, "f" * 32, SystemClock(), within_s=0.1) is None
