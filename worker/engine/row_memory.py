"""Who may begin without the rows ever taking more memory than there is. Counts tokens; the runtime gives memory back.

A row takes memory as far as it was ever written, also after its sequence has left. So two things are counted:

    needed     prompt + max_tokens of each sequence that has a row: what it may come to. One more begins only when
               all of them together stay within `CacheLayout.tokens_max`; else it waits
    written    per row, the largest need since the row was last trimmed. When these come to more than `tokens_max`, what
               lies beyond the needs of now is given back, in the same step

A row that moves is there twice while it is copied.
"""

from __future__ import annotations

from collections.abc import Iterable

from worker.engine.ports import CacheLayout, RowTrim
from worker.engine.sequence import Sequence

__all__ = ["RowMemory"]


class RowMemory:
    """Owner of what rows may have written; engine thread only."""

    def __init__(self, layout: CacheLayout) -> None:
        self._tokens_max = layout.num_tokens
        self._written = [0] * layout.num_slots

    def __repr__(self) -> str:
        return f"<RowMemory {sum(self._written)} of {self._tokens_max}>"

    def shortage(self, sequence: Sequence, occupants: Iterable[Sequence]) -> int:
        """Tokens by which the rows would be too many if it began beside `occupants`; 0: it may."""
        needed = sum(occupant.num_tokens_max for occupant in occupants)
        return max(0, needed + sequence.num_tokens_max - self._tokens_max)

    def trim(self, occupants: Iterable[Sequence]) -> tuple[RowTrim, ...]:
        """Which rows have to give back what, now that these have their rows for the next step; mostly nothing."""
        needs = [0] * len(self._written)
        for occupant in occupants:
            if occupant.slot is not None:
                needs[occupant.slot] = occupant.num_tokens_max
        self._written = [max(pair) for pair in zip(self._written, needs, strict=True)]
        if sum(self._written) <= self._tokens_max:
            return ()
        written, self._written = self._written, needs
        return tuple(
            RowTrim(slot, need)
            for slot, (had, need) in enumerate(zip(written, needs, strict=True))
            if had > need
        )
