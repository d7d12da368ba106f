"""Engines side by side: rates, ratios, and a contest of two real engine processes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from common.errors import Unavailable
from loadtest.engines.__main__ import main
from loadtest.engines.api import random_prompts, window_rate
from loadtest.engines.contest import Contestant, Plan, run_contest
from loadtest.engines.exactness import Reference
from loadtest.engines.result import Measure, Result
from tests.support.tiny_models import (
    NEEDS_NATIVE,
    TINY_LLAMA,
    TINY_LLAMA_INT4,
    TINY_QWEN2,
    golden_cases,
    load_tiny,
    make_sequence,
    prefill,
)

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
    assert (found.streams, found.itl_ms, found.itl_ms_p99) == (2, 500.0, 1000.0)


def test_streams_that_never_met_have_no_rate() -> None:
    with pytest.raises(ValueError, match="more tokens"):
        window_rate([[0.0, 1.0], [2.0, 3.0]])


def test_prompts_are_the_same_for_everybody_and_share_no_beginning() -> None:
    prompts = random_prompts(4, 8, vocab_size=300, seed=1)
    assert prompts == random_prompts(4, 8, vocab_size=300, seed=1)
    assert prompts != random_prompts(4, 8, vocab_size=300, seed=2)
    assert len({prompt[0] for prompt in prompts}) > 1
    assert all(10 <= token < 300 for prompt in prompts for token in prompt)


def _last_logits(runner: Any, prompt: list[int]) -> npt.NDArray[np.float32]:
    (batch,) = prefill(make_sequence(prompt))
    (computed,) = runner.compute(batch)
    return np.array(computed.logits[0])


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
    assert facts["one"]["precision"].startswith("fp32")
    assert facts["one"]["rss"] > 0
    assert facts["one"]["weights_bytes"] > 0
    steps = [one.details for one in figures if one.measure == DECODE]
    assert all(one["step_ms"] > 0 and 0 < one["inside"] < 1 for one in steps)


def test_the_error_is_that_of_the_logits(tmp_path: Path) -> None:
    """The reference was computed in fp32 in one run; the last token by itself changes next to nothing, int4 a lot."""
    cases = golden_cases("tiny-llama")[:4]
    file = tmp_path / "reference.npz"
    prompts = [case["prompt_ids"][:8] for case in cases if len(case["prompt_ids"]) >= 8]
    runner = load_tiny(TINY_LLAMA).runner
    logits = np.stack([_last_logits(runner, prompt) for prompt in prompts])
    np.savez(file, prompts=np.array(prompts), logits=logits)
    contestants = [
        Contestant(label=folder.name, engine="lepton", model=folder)
        for folder in (TINY_LLAMA, TINY_LLAMA_INT4)
    ]
    plan = replace(PLAN, measures=(), rounds=0)
    _, facts = run_contest(contestants, plan, lambda _: None, Reference.read(file))
    assert facts["fp32"]["logit_error"] < 1e-4
    assert 0.01 < facts["int4"]["logit_error"] < 1.0


@NEEDS_NATIVE
def test_our_operators_are_measured_beside_those_for_other_processors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sizes = "--streams 1 --prompts 16 --prompt-tokens 8 --tokens 6 --context-max 64 --rounds 1"
    model = ["--model", f"tiny={TINY_LLAMA_INT4}", "--threads", "1"]
    assert main([*model, "--kernels", "portable,avx2", *sizes.split(), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["facts"]
    assert list(facts) == ["tiny", "tiny, portable", "tiny, avx2"]
    prints = [of["notes"]["fingerprint"] for of in facts.values()]
    assert prints[2] == prints[0] != prints[1]


def test_kernels_that_nobody_has_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--model", str(TINY_LLAMA), "--kernels", "sse2"])
    assert "portable, avx2, avx_vnni" in capsys.readouterr().err


def test_an_engine_that_cannot_start_ends_the_contest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unavailable, match="none: /nowhere: no such model folder"):
        run_contest(
            [Contestant(label="none", engine="lepton", model=Path("/nowhere"))],
            PLAN,
            lambda _: None,
        )
    assert main(["--model", "/nowhere"]) == 1
    assert "PROCESS_FAILED" in capsys.readouterr().err


def test_an_engine_that_falls_ends_the_contest(tmp_path: Path) -> None:
    falls = tmp_path / "python"
    falls.write_text("#!/bin/sh\nexit 3\n")
    falls.chmod(0o755)
    with pytest.raises(Unavailable, match="ended with 3"):
        run_contest(
            [Contestant(label="none", engine="lepton", model=TINY_LLAMA, python=falls)],
            PLAN,
            lambda _: None,
        )


def test_the_command_prints_json_and_writes_the_page(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Ours\n<!-- begin engine -->\nold\n<!-- end engine -->\nkept\n", "utf-8")
    small = [
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
    assert main([*arguments, *small, "--write", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["measure"]["kind"] for one in found["figures"]] == ["decode", "prefill"]
    assert found["facts"]["Lepton"]["threads"] == 1
    text = page.read_text("utf-8")
    assert text.startswith("# Ours\n")
    assert text.endswith("kept\n")
    assert "old" not in text
    assert "| streams | tokens/s | step, ms |" in text
    plots = re.findall(r"!\[[^]]*\]\(([^)]*)\)", text)
    assert plots == ["engine-decode.svg", "engine-prefill.svg"]
    assert all((tmp_path / plot).is_file() for plot in plots)

    # Tables and plots can be made again from what was kept, without measuring.
    assert main(["--redo", str(tmp_path / "engine.json"), "--write", str(page)]) == 0
    assert page.read_text("utf-8") == text
    assert Result.read(tmp_path / "engine.json").measures == (
        Measure("decode", 1),
        Measure("prefill", 16),
    )
