"""Which sequence lives in which row of the KV slab.

A run of the model covers a contiguous range of rows, so the decoding sequences sit densely at the bottom and the
prefilling ones right above them, in the order in which they will finish:

    slot      0    1    2    3    4    5    6
            ┌────┬────┬────┬────┬────┬────┬────┐
            │ D  │ D  │ D  │ P1 │ P2 │    │    │        num_decoding = 3
            └────┴────┴────┴────┴────┴────┴────┘

    admit    P3 takes slot 5, the first free one: nothing moves.
    promote  P1, always the lowest prefilling row, becomes a D where it is: only the border moves. Prompts finish in
             the order in which they started, so no two rows ever have to be swapped and no spare row is needed.
    free     leaves a hole; nothing moves until `compact`, which closes all holes of a step together:

               before   │ D0 │ ── │ D2 │ D3 │ P1 │ P2 │        D1 ended
               copies   D3 → 1, then P1 → 3, P2 → 4
               after    │ D0 │ D3 │ D2 │ P1 │ P2 │

Why the copies of `compact` may run one after another: a decoding row moves from above the new border into a hole
below it, so its target was free. The prefilling rows then move down, lowest first: the place that each one takes
belonged to a row that ended, to a decoding row that has just moved, or to the prefilling row that moved before it.

Rows without computed tokens move for nothing. Between steps at most one prompt is half computed (the scheduler
finishes what it began), so closing k holes costs at most k + 1 row copies.
"""

from __future__ import annotations

from worker.engine.ports import CacheLayout, SlotCopy
from worker.engine.sequence import Sequence

__all__ = ["SlotTable"]


class SlotTable:
    """Owner of `Sequence.slot`; engine thread only. Breaking a rule of use raises RuntimeError."""

    def __init__(self, layout: CacheLayout) -> None:
        self._layout = layout
        self._rows: list[Sequence | None] = []
        """Index is slot; None is a hole."""
        self._num_decoding = 0
        """The border: rows below it decode (or are holes), rows from it on prefill."""
        self._num_holes = 0

    def __repr__(self) -> str:
        rows = "".join(
            "-" if row is None else "D" if slot < self._num_decoding else "P"
            for slot, row in enumerate(self._rows)
        )
        return f"<SlotTable {rows or 'empty'} of {self._layout.num_slots}>"

    @property
    def decoding(self) -> tuple[Sequence, ...]:
        """By slot; after `compact` their slots are 0, 1, … without a gap."""
        return tuple(row for row in self._rows[: self._num_decoding] if row is not None)

    @property
    def prefilling(self) -> tuple[Sequence, ...]:
        """By slot, which is the order in which they were admitted."""
        return tuple(row for row in self._rows[self._num_decoding :] if row is not None)

    @property
    def occupants(self) -> tuple[Sequence, ...]:
        """Everybody who holds a slot."""
        return tuple(row for row in self._rows if row is not None)

    @property
    def num_occupied(self) -> int:
        return len(self._rows) - self._num_holes

    @property
    def num_free(self) -> int:
        return self._layout.num_slots - self.num_occupied

    @property
    def usage(self) -> float:
        """Share of the tokens for which there is memory that are computed, 0 to 1."""
        num_computed = sum(row.num_computed_tokens for row in self._rows if row is not None)
        return num_computed / self._layout.num_tokens

    def admit(self, sequence: Sequence) -> int:
        """Gives the first free slot to a sequence that will prefill, and tells it. Not while there are holes."""
        self._require_dense("admit")
        if len(self._rows) == self._layout.num_slots:
            raise RuntimeError(f"no slot is free: {self!r}")
        if sequence.slot is not None:
            raise RuntimeError(f"sequence {sequence.id} already has slot {sequence.slot}")
        sequence.slot = slot = len(self._rows)
        self._rows.append(sequence)
        return slot

    def promote(self, sequence: Sequence) -> None:
        """Makes the lowest prefilling row a decoding one. Not while there are holes."""
        self._require_dense("promote")
        if sequence.slot != self._num_decoding or self._rows[self._num_decoding] is not sequence:
            raise RuntimeError(
                f"sequence {sequence.id} in slot {sequence.slot} is not the lowest prefilling row: {self!r}"
            )
        self._num_decoding += 1

    def free(self, sequence: Sequence) -> None:
        """Takes the slot from a sequence that ended; leaves a hole."""
        slot = sequence.slot
        if slot is None or self._rows[slot] is not sequence:
            raise RuntimeError(f"sequence {sequence.id} does not hold slot {slot}: {self!r}")
        self._rows[slot] = None
        self._num_holes += 1
        sequence.slot = None

    def compact(self) -> tuple[SlotCopy, ...]:
        """Closes all holes. Returns the copies to execute, in this order, before anything else runs."""
        if not self._num_holes:
            return ()
        decoding, prefilling = self.decoding, self.prefilling
        border = len(decoding)
        holes = (slot for slot in range(border) if self._rows[slot] is None)
        movers = (row for row in self._rows[border : self._num_decoding] if row is not None)
        moves = list(zip(movers, holes, strict=True))
        moves += [(row, border + index) for index, row in enumerate(prefilling)]
        copies = []
        for row, target in moves:
            if row.slot is not None and row.slot != target and row.num_computed_tokens:
                copies.append(SlotCopy(row.slot, target, row.num_computed_tokens))
            row.slot = target
        self._rows = [*sorted(decoding, key=_slot_of), *prefilling]
        self._num_decoding = border
        self._num_holes = 0
        return tuple(copies)

    def check_integrity(self) -> None:
        """Raises RuntimeError when rows and sequences disagree; called when the engine falls idle, and by tests."""
        for slot, row in enumerate(self._rows):
            if row is not None and row.slot != slot:
                raise RuntimeError(
                    f"row {slot} holds sequence {row.id}, which claims slot {row.slot}"
                )
        if self._rows.count(None) != self._num_holes:
            raise RuntimeError(f"{self._num_holes} holes counted: {self!r}")
        if not 0 <= self._num_decoding <= len(self._rows) <= self._layout.num_slots:
            raise RuntimeError(f"border {self._num_decoding} out of place: {self!r}")

    def _require_dense(self, action: str) -> None:
        if self._num_holes:
            raise RuntimeError(f"{action} before compact: {self!r}")


def _slot_of(sequence: Sequence) -> int:
    if sequence.slot is None:
        raise RuntimeError(f"sequence {sequence.id} has no slot")
    return sequence.slot
