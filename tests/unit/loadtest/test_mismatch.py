"""Company against alone: what is counted, and that it is nothing where nothing may differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loadtest.mismatch.__main__ import main
from loadtest.mismatch.continued import go_on
from loadtest.mismatch.measure import compare, reference_of
from tests.support.fake_runner import FakeRunner, fake_token
from tests.support.quantized import in_blocks
from tests.support.tiny_models import TINY_LLAMA
from worker.engine.sequence import Sequence

PROMPTS = [(number, 2, 3) for number in range(10)]
NO_END: frozenset[int] = frozenset()


def honest(sequence: Sequence, position: int) -> int:
    return fake_token(sequence.prompt_ids, 0, position)


def turned(sequence: Sequence, position: int) -> int:
    """Prompts 3 and 4 get another token at position 5, and at every position from 7 on."""
    wrong = sequence.prompt_ids[0] in (3, 4) and (position == 5 or position >= 7)
    return honest(sequence, position) ^ wrong


def test_every_position_is_compared_under_the_past_of_the_reference() -> None:
    alone = FakeRunner(num_slots=1, tokens=honest)
    references = reference_of(alone, PROMPTS, tokens=20, eos_ids=NO_END)
    assert all(len(reference.tokens) == len(reference.leads) == 20 for reference in references)
    # The fake goes on only with what it was told before: a past that is not the reference's is a violation.
    company = FakeRunner(num_slots=4, tokens=turned)
    found = compare(company, references, rows=4)
    assert not company.violations
    assert (found.requests, found.positions) == (10, 200)
    assert found.mismatches == 2 * (1 + 13)
    assert found.per_10_000 == 1e4 * 28 / 200
    assert (found.diverged, found.tokens_until) == (0.2, 5)
    assert found.lead_at_mismatch == found.lead == 1.0
    assert compare(FakeRunner(num_slots=4, tokens=honest), references, rows=4).mismatches == 0


def test_an_answer_ends_where_it_ended_alone() -> None:
    ends = frozenset({honest_at(4)})
    references = reference_of(
        FakeRunner(num_slots=1, tokens=honest), PROMPTS[:1], tokens=20, eos_ids=ends
    )
    assert len(references[0].tokens) == 5
    assert compare(FakeRunner(num_slots=2, tokens=turned), references, rows=2).positions == 5


def honest_at(position: int) -> int:
    return fake_token(PROMPTS[0], 0, position)


def test_of_cut_answers_replay_and_rest_are_compared() -> None:
    """Prompts 3 and 4 are drawn otherwise at 5 and from 7 on; the fake draws by position alone."""
    alone = FakeRunner(num_slots=1, tokens=honest)
    references = reference_of(alone, PROMPTS, tokens=20, eos_ids=NO_END)
    found = go_on(FakeRunner(num_slots=4, tokens=turned), references, cut=7, eos_ids=NO_END)
    assert (found.requests, found.replay_mismatches, found.parted) == (10, 2, 2)
    assert found.replay_per_10_000 == 1e4 * 2 / 70
    native = FakeRunner(num_slots=4, tokens=turned, keeps_decoded=True)
    found = go_on(native, references, cut=7, eos_ids=NO_END)
    assert (found.replay_mismatches, found.parted) == (0, 2)


def test_prompts_must_differ() -> None:
    with pytest.raises(ValueError, match="twice"):
        reference_of(FakeRunner(), [(1,), (1,)], tokens=2, eos_ids=NO_END)


def measured(capsys: pytest.CaptureFixture[str], folder: Path, *flags: str) -> dict[str, Any]:
    arguments = [str(folder), "--kernels", "portable", "--rows", "3", "--requests", "60"]
    arguments += ["--tokens", "60", "--threads", "1"]
    assert main([*arguments, "--json", *flags]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_exact_shows_none_and_fast_does(capsys: pytest.CaptureFixture[str]) -> None:
    folder = in_blocks(TINY_LLAMA, 128)
    exact = measured(capsys, folder, "--mode", "exact", "--cuts", "29,60")
    assert "/exact/" in exact["fingerprint"]
    assert [one["mismatches"] for one in exact["company"]] == [0]
    assert exact["continued"] == [
        {"cut": cut, "requests": requests, "replay_mismatches": 0, "parted": 0}
        for cut, requests in ((29, 60), (60, 0))
    ]
    fast = measured(capsys, folder, "--cuts", "29,59")
    early, late = fast["continued"]
    assert early["parted"] > 0
    assert late["replay_mismatches"] > 0
    assert "/fast/" in fast["fingerprint"]
    (company,) = fast["company"]
    assert company["positions"] == 60 * 60
    assert company["mismatches"] > 0


def test_a_folder_that_is_no_model_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([str(tmp_path / "nothing")]) == 2
    assert "MODEL_FILE_MISSING" in capsys.readouterr().err
