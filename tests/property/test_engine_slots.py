"""Slots: dense whatever comes and goes, and every row keeps what its sequence computed."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.engine import make_sequence
from worker.engine.ports import CacheLayout, SlotCopy
from worker.engine.sequence import Sequence
from worker.engine.slots import SlotTable

NUM_SLOTS = 5
CAPACITY = 32


class SlotMachine(RuleBasedStateMachine):
    """Beside the table lives a slab of real rows; copies are really executed, so a wrong one is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.table = SlotTable(CacheLayout(num_slots=NUM_SLOTS, capacity=CAPACITY))
        self.slab: list[list[str]] = [[] for _ in range(NUM_SLOTS)]
        self.decoding: set[Sequence] = set()
        self.prefilling: list[Sequence] = []
        self.num_made = 0
        self.is_dense = True

    @precondition(lambda self: self.is_dense and self.table.num_free)
    @rule()
    def admit(self) -> None:
        self.num_made += 1
        sequence = make_sequence(self.num_made)
        self.table.admit(sequence)
        self.prefilling.append(sequence)

    @precondition(lambda self: self.is_dense)
    @rule(data=st.data(), num_tokens=st.integers(1, 3))
    def compute(self, data: st.DataObject, num_tokens: int) -> None:
        """Any row computes a few tokens; each is marked with its owner and position."""
        if not (rows := [*self.decoding, *self.prefilling]):
            return
        sequence = data.draw(st.sampled_from(sorted(rows, key=lambda s: s.id)))
        start = sequence.num_computed_tokens
        end = min(start + num_tokens, CAPACITY)
        assert sequence.slot is not None
        self.slab[sequence.slot][start:] = marks(sequence, start, end)
        sequence.num_computed_tokens = end

    @precondition(lambda self: self.is_dense and self.prefilling)
    @rule()
    def promote(self) -> None:
        sequence = self.prefilling.pop(0)
        self.table.promote(sequence)
        self.decoding.add(sequence)

    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        """Some of the rows end, in any order."""
        rows = sorted([*self.decoding, *self.prefilling], key=lambda s: s.id)
        ended = data.draw(st.lists(st.sampled_from(rows), unique=True)) if rows else []
        for sequence in ended:
            self.table.free(sequence)
            assert sequence.slot is None
            self.decoding.discard(sequence)
            if sequence in self.prefilling:
                self.prefilling.remove(sequence)
            self.is_dense = False

    @rule()
    def compact(self) -> None:
        copies = self.table.compact()
        for copy in copies:
            assert copy.source != copy.target
            self.slab[copy.target] = self.slab[copy.source][: copy.num_tokens]
        self.is_dense = True
        assert [s.slot for s in self.table.decoding] == list(range(len(self.decoding)))
        border = len(self.decoding)
        assert [s.slot for s in self.table.prefilling] == list(
            range(border, border + len(self.prefilling))
        )
        assert self.table.prefilling == tuple(self.prefilling), "the order of admission is kept"

    @invariant()
    def books_agree(self) -> None:
        self.table.check_integrity()
        assert set(self.table.decoding) == self.decoding
        assert self.table.num_occupied + self.table.num_free == NUM_SLOTS

    @invariant()
    def every_row_holds_what_its_sequence_computed(self) -> None:
        for sequence in self.table.occupants:
            assert sequence.slot is not None
            num_computed = sequence.num_computed_tokens
            assert self.slab[sequence.slot][:num_computed] == marks(sequence, 0, num_computed)


def marks(sequence: Sequence, start: int, end: int) -> list[str]:
    return [f"{sequence.id}.{position}" for position in range(start, end)]


TestSlots = SlotMachine.TestCase


def test_the_copies_of_the_drawing() -> None:
    """The example in the module's comment: D1 ends, D3 fills its place, both prompts move down."""
    table = SlotTable(CacheLayout(num_slots=7, capacity=CAPACITY))
    sequences = []
    for index in range(6):
        sequence = make_sequence(index)
        sequence.num_computed_tokens = 10 + index
        sequences.append(sequence)
        table.admit(sequence)
        if index < 4:
            table.promote(sequence)
    table.free(sequences[1])
    assert table.compact() == (SlotCopy(3, 1, 13), SlotCopy(4, 3, 14), SlotCopy(5, 4, 15))
    assert table.compact() == ()
