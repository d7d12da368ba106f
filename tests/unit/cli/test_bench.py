"""`lepton bench` against a server that answers as the test says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import Result

from common.errors import NotFound, Overloaded, Reason
from tests.support.scripted_server import ScriptedServer

Lepton = Callable[..., Result]


def test_it_sends_what_it_says(lepton: Lepton, server: ScriptedServer) -> None:
    done = lepton("bench", "-a", server.address, "-c", "1,3", "-r", "6", "--json")
    assert done.exit_code == 0, done.output
    one, three = json.loads(done.stdout)["reports"]
    assert (one["concurrency"], one["requests"], one["failed"]) == (1, 6, 0)
    assert (three["concurrency"], three["completion_tokens"]) == (3, 24)
    assert one["ttft_ms"]["p99"] > 0
    assert len(server.requests) == 12 + 4  # four warm up and are not counted


def test_a_failed_request_is_counted_and_ends_it_with_1(
    lepton: Lepton, server: ScriptedServer
) -> None:
    server.error = Overloaded("full")
    done = lepton("bench", "-a", server.address, "-c", "2", "-r", "4")
    assert done.exit_code == 1
    assert "4 of 4 failed: QUEUE_FULL (full)" in done.stderr


def test_what_no_request_can_do_is_told_by_the_warm_up(
    lepton: Lepton, server: ScriptedServer, tmp_path: Path
) -> None:
    server.error = NotFound("no model is called 'gpt'", reason=Reason.MODEL_NOT_FOUND)
    page = tmp_path / "report.html"
    done = lepton("bench", "-a", server.address, "-m", "gpt", "--json", "--report", str(page))
    assert done.exit_code == 2
    assert json.loads(done.stdout)["error"]["message"] == "no model is called 'gpt'"
    assert len(server.requests) == 4
    assert not page.exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--rate=2", "--concurrency=1"),
        ("--prompt-tokens=8", "--prompt=Hi"),
        ("--output-tokens=8", "--max-tokens=8"),
    ],
)
def test_options_that_contradict_each_other(lepton: Lepton, options: tuple[str, str]) -> None:
    done = lepton("bench", *options, "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["error"]["reason"] == "FIELDS_CONTRADICT"


def test_the_open_loop_sends_by_plan_and_says_both_latencies(
    lepton: Lepton, server: ScriptedServer
) -> None:
    done = lepton("bench", "-a", server.address, "--rate", "500,1000", "-r", "8", "--json")
    assert done.exit_code == 0, done.output
    slow, fast = json.loads(done.stdout)["reports"]
    assert (slow["rate"], fast["rate"], slow["concurrency"]) == (500.0, 1000.0, None)
    assert slow["requests"] == 8
    assert slow["late_ms"]["median"] >= 0
    assert slow["ttft_ms"]["mean"] == pytest.approx(
        slow["ttft_from_sending_ms"]["mean"] + slow["late_ms"]["mean"]
    )


def test_prompts_and_answers_of_drawn_lengths(lepton: Lepton, server: ScriptedServer) -> None:
    done = lepton(
        *("bench", "-a", server.address, "-c", "2", "-r", "10", "--warmup", "0", "--seed", "3"),
        *("--prompt-tokens", "uniform:3-9", "--shared-prefix-tokens", "16", "--prefix-groups", "2"),
        *("--output-tokens", "uniform:5-7"),
    )
    assert done.exit_code == 0, done.output
    prompts = [list(request.token_ids.ids) for request in server.requests]
    assert len({tuple(ids[:16]) for ids in prompts}) == 2
    assert {len(ids) for ids in prompts} <= set(range(19, 26))
    assert {request.stop.max_tokens for request in server.requests} <= {5, 6, 7}
    assert all(request.stop.ignore_eos for request in server.requests)


def test_clients_that_go_away_are_no_failures(lepton: Lepton, server: ScriptedServer) -> None:
    server.words = tuple("abcdefghijkl")
    arguments = ("bench", "-a", server.address, "-c", "2", "-r", "6", "--json")
    done = lepton(*arguments, "--cancel-share", "1", "--slo", "ttft=10s")
    assert done.exit_code == 0, done.output
    (report,) = json.loads(done.stdout)["reports"]
    assert (report["cancelled"], report["failed"], report["goodput"]) == (6, 0, 0.0)
    assert 6 <= report["completion_tokens"] <= 6 * 8
    assert report["tpot_ms"] is None


def test_the_page_stands_alone(lepton: Lepton, server: ScriptedServer, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = lepton(
        *("bench", "-a", server.address, "-c", "1,2", "-r", "4", "--report", str(page)),
        *("--slo", "ttft=10s,tpot=1s"),
    )
    assert done.exit_code == 0, done.output
    text = page.read_text("utf-8")
    ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))  # noqa: S314 - we wrote it
    assert "<script" not in text
    assert "url(" not in text
    assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "goodput/s at ttft=10000ms,tpot=1000ms" in text
    assert "prefers-color-scheme:dark" in text


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_sent(
    lepton: Lepton, server: ScriptedServer, tmp_path: Path
) -> None:
    done = lepton("bench", "-a", server.address, "--report", str(tmp_path / "no" / "r.html"))
    assert done.exit_code == 1
    assert server.requests == []


@pytest.mark.parametrize(
    ("option", "text"),
    [
        *(("rate", text) for text in ("0", "-1", "x", "1,,2", "inf", "nan")),
        *(("prompt-tokens", text) for text in ("0", "uniform:9-3", "normal:3", "lognormal:9,99")),
        ("output-tokens", "uniform:0-3"),
        *(("slo", text) for text in ("ttft", "ttft=5", "itl=5ms", "ttft=1ms,,")),
    ],
)
def test_what_cannot_be_understood_is_refused_with_its_name(
    lepton: Lepton, option: str, text: str
) -> None:
    done = lepton("bench", f"--{option}={text}", "--json")
    assert done.exit_code == 2, done.output
    assert json.loads(done.stdout)["error"]["field"] == option


def test_a_shared_beginning_needs_a_length_of_the_rest(lepton: Lepton) -> None:
    assert lepton("bench", "--shared-prefix-tokens", "8").exit_code == 2


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


def test_direct_requests_are_picked_one_by_one(lepton: Lepton, server: ScriptedServer) -> None:
    done = lepton("bench", "-a", server.address, "-c", "2", "-r", "6", "--direct", "--json")
    assert done.exit_code == 0, done.output
    (report,) = json.loads(done.stdout)["reports"]
    assert report["failed"] == 0
    assert len(server.picks) == len(server.requests) == 6 + 4
