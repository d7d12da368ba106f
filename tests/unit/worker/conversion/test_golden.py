"""A golden answer holds on every machine: it ends before the first token that is in doubt."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.processes import DEMO_MODEL
from tests.support.tiny_models import TINY_LLAMA, copy_model
from worker.conversion import golden
from worker.conversion.forms import INT8, STORED, Forms
from worker.conversion.golden import golden_of
from worker.runtime.model import load_model


def test_a_worker_gives_the_answer_in_either_form(tmp_path: Path) -> None:
    folder = copy_model(DEMO_MODEL, tmp_path / "m")
    (folder / "manifest.json").unlink()  # it knows another golden prompt
    found = golden_of(folder)
    assert found is not None
    assert found["text"].startswith("I am a small demo model.")
    (folder / "golden.json").write_text(json.dumps(found))
    for prefill_int8 in (True, False):
        load_model(
            folder, name="m", threads=1, rows_max=1, mode="fast", prefill_int8=prefill_int8
        )  # raises unless it answers so


def test_a_template_that_wants_more_than_a_question_is_left_out(tmp_path: Path) -> None:
    folder = copy_model(DEMO_MODEL, tmp_path / "m")
    (folder / "manifest.json").unlink()
    (folder / "chat_template.jinja").write_text("{{ raise_exception('a system message first') }}")
    found = golden_of(folder)
    assert found is None or found["prompt"].startswith("One, two")


def test_a_model_without_a_chat_template_continues_a_text(tmp_path: Path) -> None:
    folder = copy_model(TINY_LLAMA, tmp_path / "m")
    (folder / "chat_template.jinja").unlink()
    found = golden_of(folder)
    assert found is None or found["prompt"].startswith("One, two")


@pytest.mark.parametrize(
    ("leads", "expected"),
    [
        ({STORED: [(5, 9.0)], INT8: [(5, 9.0)]}, 5),
        ({STORED: [(5, 9.0)], INT8: [(6, 9.0)]}, None),
        ({STORED: [(5, 9.0)], INT8: [(5, 0.001)]}, None),
        ({STORED: [(5, float("nan"))], INT8: [(5, 9.0)]}, None),
    ],
)
def test_a_token_counts_when_every_form_is_sure_of_the_same(
    leads: dict[str, list[tuple[int, float]]],
    expected: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def logits(
        self: Forms, form: str, ids: list[int], *, last_only: bool
    ) -> npt.NDArray[np.float32]:
        row = np.random.default_rng(1).normal(scale=0.1, size=(1, 20)).astype(np.float32)
        ((token_id, lead),) = leads[form]
        row[0, token_id] = row.max() + lead
        return row

    monkeypatch.setattr(Forms, "logits", logits)
    monkeypatch.setattr(Forms, "names", (STORED, INT8))
    assert golden._sure_token(Forms.__new__(Forms), [1]) == expected
