"""Engines side by side: rates, ratios, and a contest of two real engine processes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from loadtest.engines.__main__ import main
from loadtest.engines.api import random_prompts, window_rate
from loadtest.engines.contest import Contestant, Figure, Measure, Plan, run_contest
from loadtest.engines.report import ratios
from tests.support.tiny_models import TINY_LLAMA, TINY_QWEN2

DECODE, PREFILL = Measure("decode", 2), Measure("prefill", 16)
PLAN = Plan(
    measures=(DECODE, PREFILL), rounds=2, threads=1, prompt_tokens=8, tokens=12, context_max=64
)


def test_the_rate_counts_only_while_all_streams_decode() -> None:
    early = [0.0, 1.0, 2.0, 3.0, 4.0]
    late = [2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0]
    found = window_rate([early, late])
    # From 2 to 4: two tokens of the first stream, four of the second.
    assert found.tokens_per_s == 3.0
    assert (found.streams, found.step_ms, found.step_ms_p99) == (2, 500.0, 1000.0)


def test_streams_that_never_met_have_no_rate() -> None:
    with pytest.raises(ValueError, match="more tokens"):
        window_rate([[0.0, 1.0], [2.0, 3.0]])


def test_prompts_are_the_same_for_everybody_and_share_no_beginning() -> None:
    prompts = random_prompts(4, 8, vocab_size=300, seed=1)
    assert prompts == random_prompts(4, 8, vocab_size=300, seed=1)
    assert prompts != random_prompts(4, 8, vocab_size=300, seed=2)
    assert len({prompt[0] for prompt in prompts}) > 1
    assert all(10 <= token < 300 for prompt in prompts for token in prompt)


def figure(label: str, number: int, rate: float) -> Figure:
    return Figure(label=label, measure=DECODE, round=number, tokens_per_s=rate, details={})


def test_a_ratio_is_taken_within_one_round_and_to_the_best_other() -> None:
    """The second round ran on a machine half as fast; the ratio does not care."""
    figures = [
        *(figure("ours", 1, 120.0), figure("a", 1, 100.0), figure("b", 1, 60.0)),
        *(figure("ours", 2, 60.0), figure("a", 2, 30.0), figure("b", 2, 40.0)),
    ]
    assert ratios(figures, DECODE, "ours", ["a", "b"]) == [1.2, 1.5]
    # Another form of ours is nobody whom we compete with.
    assert ratios(figures, DECODE, "ours", ["b"]) == [2.0, 1.5]


def test_two_engines_take_turns() -> None:
    said: list[str] = []
    contestants = [
        Contestant(label=label, engine="lepton", model=folder)
        for label, folder in (("one", TINY_LLAMA), ("two", TINY_QWEN2))
    ]
    figures, facts = run_contest(contestants, PLAN, said.append)
    assert [line.rpartition(" ")[2] for line in said] == [
        *("one", "two") * 2,
        *("two", "one") * 2,
        *("one", "two") * 2,
    ]
    assert len(figures) == 2 * 2 * 2
    assert all(one.tokens_per_s > 0 for one in figures)
    assert facts["one"]["precision"] == "fp32, exact"
    assert facts["one"]["rss"] > 0


def test_an_engine_that_cannot_start_ends_the_contest() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run_contest(
            [Contestant(label="none", engine="lepton", model=Path("/nowhere"))],
            PLAN,
            lambda _: None,
        )


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    small = [
        "--mode",
        "exact",
        "--streams",
        "1",
        "--prompts",
        "16",
        "--rounds",
        "1",
        "--tokens",
        "6",
        "--threads",
        "1",
    ]
    arguments = [
        "--model",
        str(TINY_LLAMA),
        "--prompt-tokens",
        "8",
        "--context-max",
        "64",
        "--json",
    ]
    assert main([*arguments, *small]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["measure"]["kind"] for one in found["figures"]] == ["decode", "prefill"]
    assert found["engines"]["lepton, exact"]["threads"] == 1
