"""Load and its numbers."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import Result

from cli.bench.measure import Sample
from cli.bench.report import make_report, percentile
from common.errors import Overloaded
from tests.support.scripted_server import ScriptedServer

Lepton = Callable[..., Result]


def _sample(**changes: object) -> Sample:
    values: dict[str, object] = {
        "began_s": 0.0,
        "ended_s": 1.1,
        "first_s": 0.1,
        "gaps_s": (0.1, 0.3),
        "prompt_tokens": 5,
        "completion_tokens": 11,
        **changes,
    }
    return Sample(**values)  # type: ignore[arg-type]


def test_definitions() -> None:
    samples = [
        _sample(),
        _sample(first_s=0.3, completion_tokens=1, gaps_s=()),
        _sample(error="QUEUE_FULL", first_s=None, completion_tokens=0),
    ]
    report = make_report(samples, concurrency=2, took_s=4.0)
    assert (report.requests, report.failed, report.errors) == (3, 1, {"QUEUE_FULL": 1})
    assert report.tokens_per_s == 3.0
    assert report.requests_per_s == 0.5
    assert report.ttft_ms is not None
    assert report.ttft_ms.median == pytest.approx(200)
    assert report.tpot_ms is not None
    assert report.tpot_ms.median == pytest.approx(100)  # (1.1 - 0.1) / 10; the other has one token
    assert report.itl_ms is not None
    assert (report.itl_ms.median, report.itl_ms.p99) == pytest.approx((200, 298))


def test_a_run_in_which_all_failed_has_no_numbers() -> None:
    report = make_report([_sample(error="X")], concurrency=1, took_s=1.0)
    assert (report.ttft_ms, report.itl_ms, report.tokens_per_s) == (None, None, 0.0)


@pytest.mark.parametrize(("share", "value"), [(0, 1.0), (0.5, 2.5), (0.99, 3.97), (1, 4.0)])
def test_percentiles_interpolate(share: float, value: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], share) == pytest.approx(value)


def test_it_sends_what_it_says(lepton: Lepton, server: ScriptedServer) -> None:
    done = lepton("bench", "-a", server.address, "-c", "1,3", "-r", "6", "--json")
    assert done.exit_code == 0, done.output
    one, three = json.loads(done.stdout)["reports"]
    assert (one["concurrency"], one["requests"], one["failed"]) == (1, 6, 0)
    assert (three["concurrency"], three["completion_tokens"]) == (3, 24)
    assert one["ttft_ms"]["p99"] > 0
    assert len(server.requests) == 12


def test_a_failed_request_is_counted_and_ends_it_with_1(
    lepton: Lepton, server: ScriptedServer
) -> None:
    server.error = Overloaded("full")
    done = lepton("bench", "-a", server.address, "-c", "2", "-r", "4")
    assert done.exit_code == 1
    assert "4 of 4 failed: QUEUE_FULL" in done.stderr


@pytest.mark.parametrize("text", ["", "0", "a", "1,,2", "-3"])
def test_wrong_concurrency(lepton: Lepton, text: str) -> None:
    assert lepton("bench", f"--concurrency={text}").exit_code == 2
    done = lepton("bench", f"--concurrency={text}", "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["error"]["field"] == "concurrency"


def test_nothing_to_measure(lepton: Lepton, server: ScriptedServer) -> None:
    assert lepton("bench", "-a", "127.0.0.1:1").exit_code == 1
    server.models = []
    assert "serves no model" in lepton("bench", "-a", server.address).stderr
