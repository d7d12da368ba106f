"""When a sequence is finished, and which ids may not end it yet."""

from __future__ import annotations

import pytest

from tests.support.engine import make_sequence
from worker.engine.sequence import FinishReason, StopRule
from worker.engine.stopping import Finish, banned_ids, finish

STOP = StopRule(max_tokens=4, min_tokens=2, eos_ids=frozenset({100}), stop_ids=frozenset({200}))


@pytest.mark.parametrize(
    ("generated", "expected"),
    [
        ([1], None),
        ([1, 2, 3], None),
        ([1, 2, 3, 4], Finish(FinishReason.LENGTH)),
        ([1, 2, 100], Finish(FinishReason.STOP, 100)),
        ([1, 2, 200], Finish(FinishReason.STOP, 200)),
        ([1, 2, 3, 100], Finish(FinishReason.STOP, 100)),
        ([1, 100], None),
        ([100, 2, 3], None),
    ],
    ids=[
        "goes on",
        "one left",
        "max_tokens",
        "eos",
        "stop id",
        "stop wins over length",
        "too early",
        "only the last token counts",
    ],
)
def test_finish(generated: list[int], expected: Finish | None) -> None:
    sequence = make_sequence(stop=STOP)
    sequence.generated_ids += generated
    assert finish(sequence) == expected


@pytest.mark.parametrize(
    ("num_generated", "banned"), [(0, {100, 200}), (1, {100, 200}), (2, set()), (3, set())]
)
def test_ids_that_end_are_banned_until_min_tokens(num_generated: int, banned: set[int]) -> None:
    sequence = make_sequence(stop=STOP)
    sequence.generated_ids += [1] * num_generated
    assert banned_ids(sequence) == banned
