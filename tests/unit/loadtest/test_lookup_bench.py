"""The benchmark of prompt lookup: its texts are what they say, and its answers are those that were given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from loadtest.lookup.__main__ import main
from loadtest.lookup.texts import KINDS, make_texts
from tests.support.tiny_models import NEEDS_NATIVE, TINY_LLAMA
from worker.engine.ngrams import NgramIndex


def share_found(kind: str, *, seed: int) -> float:
    """Of the tokens of an answer, how many one looks up rightly."""
    (text,) = make_texts(kind, 1, prompt_tokens=200, tokens=300, vocab_size=300, seed=seed)
    index, found = NgramIndex(3), 0
    index.extend(text.prompt)
    for token_id in text.answer:
        found += index.propose(1) == (token_id,)
        index.extend((token_id,))
    return found / len(text.answer)


def test_edits_repeat_most_of_their_prompts_and_babble_repeats_nothing() -> None:
    assert all(0.7 < share_found("edit", seed=seed) < 0.99 for seed in range(5))
    assert all(0.3 < share_found("summary", seed=seed) < 0.8 for seed in range(5))
    assert all(share_found("babble", seed=seed) < 0.3 for seed in range(5))


def test_texts_are_the_same_for_the_same_seed() -> None:
    for kind in KINDS:
        first, again, other = (
            make_texts(kind, 2, prompt_tokens=20, tokens=30, vocab_size=300, seed=seed)
            for seed in (1, 1, 2)
        )
        assert first == again != other
        assert {(len(text.prompt), len(text.answer)) for text in first} == {(20, 30)}
    with pytest.raises(ValueError, match="prose"):
        make_texts("prose", 1, prompt_tokens=2, tokens=2, vocab_size=300, seed=1)


@NEEDS_NATIVE
def test_a_run_shows_every_text_with_lookup_and_without(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- begin lookup -->\n<!-- end lookup -->\n", "utf-8")
    flags = (
        "--streams",
        "1,2",
        "--rounds",
        "1",
        "--prompt-tokens",
        "40",
        "--tokens",
        "40",
        "--threads",
        "1",
    )
    found = figures(capsys, *flags, "--write", str(page))
    assert [(one["kind"], one["streams"]) for one in found] == [
        (kind, n) for kind in KINDS for n in (1, 2)
    ]
    assert all(one["on"] > 0 and one["off"] > 0 for one in found)
    assert all(0 <= one["num_accepted"] <= one["num_drafted"] for one in found)
    assert sum(one["num_accepted"] for one in found) > 0
    assert "| edit | 2 |" in page.read_text("utf-8")


def figures(capsys: pytest.CaptureFixture[str], *flags: str) -> Sequence[dict[str, float]]:
    assert main(["--model", str(TINY_LLAMA), "--json", *flags]) == 0
    rows: list[dict[str, float]] = json.loads(capsys.readouterr().out)["figures"]
    return rows
