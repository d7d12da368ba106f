"""Prompt lookup: what came after these tokens before may come after them again. Pure.

    tokens   │ a b c d e f … x a b c │            the last n = 3 tokens stood there before, and d e f came after them:
                     └──────────┘  d e f           that is the proposal

Summaries, edits, code and answers with quotations repeat their prompts; lists and tables repeat themselves. After
Saxena, "Prompt lookup decoding", 2023. The latest place counts, unless an earlier one has just been right: then that is
read on. What repeats with a short period is read on beyond its end, as in LZ77.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

__all__ = ["NgramIndex"]


@final
class NgramIndex:
    """The tokens of one sequence by the `ngram` tokens before them; one entry for each token at most."""

    def __init__(self, ngram: int) -> None:
        """`ngram`: at least 1."""
        self._ngram = ngram
        self._ids: list[int] = []
        self._next: dict[tuple[int, ...], int] = {}
        """n tokens → where the token after their latest place stands."""
        self._lead: int | None = None
        """How far behind its end the sequence was read from last time, tokens."""

    def __repr__(self) -> str:
        return f"<NgramIndex {len(self._next)} places of {len(self._ids)} tokens>"

    def __len__(self) -> int:
        """Tokens taken in."""
        return len(self._ids)

    def extend(self, token_ids: Iterable[int]) -> None:
        """Takes in the tokens that follow those it has."""
        ids, size = self._ids, self._ngram
        first = max(len(ids), size)
        ids += token_ids
        windows = zip(*(ids[first - size + at :] for at in range(size)), strict=False)
        self._next.update(zip(windows, range(first, len(ids)), strict=False))

    def propose(self, most: int) -> tuple[int, ...]:
        """Up to `most` tokens that may come next; () when the last n tokens were never there before."""
        ids = self._ids
        last = tuple(ids[-self._ngram :])
        at = self._place(last)
        self._lead = None if at is None else len(ids) - at
        if at is None:
            return ()
        proposed = ids[at : at + most]
        while len(proposed) < most:  # the place is near the end: what was proposed repeats itself
            proposed += proposed[: most - len(proposed)]
        return tuple(proposed)

    def _place(self, last: tuple[int, ...]) -> int | None:
        if self._lead is not None:
            at = len(self._ids) - self._lead
            if tuple(self._ids[at - self._ngram : at]) == last:
                return at
        return self._next.get(last)
