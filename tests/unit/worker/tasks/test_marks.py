"""Beginnings in bytes as beginnings in tokens."""

from __future__ import annotations

import pytest

from common.request.prompt_prefix import NO_PREFIX, PromptPrefix
from worker.tasks.marks import marks_of


@pytest.mark.parametrize(
    ("num_tokens", "marks"),
    [(1000, ((500, 7), (1000, 8))), (251, ((125, 7), (251, 8))), (1, ((0, 7), (1, 8)))],
)
def test_tokens_are_spread_evenly(num_tokens: int, marks: tuple[tuple[int, int], ...]) -> None:
    prefix = PromptPrefix(hashes=(7, 8), ends=(512, 1024), is_whole=True)
    assert marks_of(prefix, num_tokens) == marks


@pytest.mark.parametrize(
    "prefix",
    [
        NO_PREFIX,
        PromptPrefix(hashes=(7,), ends=(512,), is_whole=False),
        PromptPrefix(hashes=(7,), ends=(0,), is_whole=True),
    ],
    ids=["not hashed", "not to its end", "a message without content"],
)
def test_what_is_not_counted_has_none(prefix: PromptPrefix) -> None:
    assert marks_of(prefix, 100) == ()
