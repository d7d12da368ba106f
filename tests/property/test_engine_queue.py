"""The waiting queue: first come first served inside a band, higher bands first, nobody starves.

Sequences that another worker began go before all bands.
"""

from __future__ import annotations

from collections import defaultdict, deque

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.engine import make_sequence
from worker.engine.queue import WaitingQueue
from worker.engine.sequence import Sequence

OVERTAKEN_MAX = 3
CONTINUED = 9
"""Stands for the band of sequences that another worker began."""
PRIORITIES = (1, 2, 3)


class QueueMachine(RuleBasedStateMachine):
    """Against the plainest model: a deque per band and a count of how often each was passed over in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = WaitingQueue(overtaken_max=OVERTAKEN_MAX)
        self.bands: dict[int, deque[Sequence]] = {p: deque() for p in (*PRIORITIES, CONTINUED)}
        self.passed: dict[int, int] = defaultdict(int)
        self.num_made = 0

    @property
    def occupied(self) -> list[int]:
        return [p for p in PRIORITIES if self.bands[p]]

    @property
    def is_anybody_there(self) -> bool:
        return any(self.bands.values())

    @rule(
        priority=st.sampled_from(PRIORITIES), num_tokens=st.integers(1, 5), is_begun=st.booleans()
    )
    def put(self, priority: int, num_tokens: int, *, is_begun: bool) -> None:
        self.num_made += 1
        sequence = make_sequence(
            self.num_made,
            prompt_ids=(7,) * num_tokens,
            priority=priority,
            known_ids=() if is_begun else None,
        )
        self.queue.put(sequence)
        self.bands[CONTINUED if is_begun else priority].append(sequence)

    @rule(priority=st.sampled_from(PRIORITIES))
    def put_back(self, priority: int) -> None:
        """One that had been taken comes back, before all others of its band."""
        self.num_made += 1
        sequence = make_sequence(self.num_made, priority=priority)
        self.queue.put_back(sequence)
        self.bands[priority].appendleft(sequence)

    @precondition(lambda self: self.is_anybody_there)
    @rule()
    def take(self) -> None:
        if self.bands[CONTINUED]:
            assert self.queue.take() is self.bands[CONTINUED].popleft(), "whatever else is due"
            return
        due = [p for p in self.occupied if self.passed[p] >= OVERTAKEN_MAX]
        peeked = self.queue.peek()
        taken = self.queue.take()
        assert taken is peeked
        assert taken is self.bands[taken.priority].popleft(), "first come first served in a band"
        assert due or not any(p > taken.priority for p in self.occupied), "higher goes first"
        self.passed[taken.priority] = 0
        for lower in self.occupied:
            if lower < taken.priority:
                self.passed[lower] += 1
                assert self.passed[lower] <= OVERTAKEN_MAX

    @precondition(lambda self: self.is_anybody_there)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        priority = data.draw(st.sampled_from([p for p, band in self.bands.items() if band]))
        sequence = data.draw(st.sampled_from(list(self.bands[priority])))
        self.queue.remove(sequence)
        self.bands[priority].remove(sequence)

    @invariant()
    def empty_bands_are_not_passed_over(self) -> None:
        for priority in PRIORITIES:
            if not self.bands[priority]:
                self.passed[priority] = 0

    @invariant()
    def books_agree(self) -> None:
        self.queue.check_integrity()
        assert set(self.queue.sequences) == {s for band in self.bands.values() for s in band}
        assert bool(self.queue) == self.is_anybody_there


TestQueue = QueueMachine.TestCase


@given(st.lists(st.sampled_from(PRIORITIES), min_size=1, max_size=8))
def test_a_low_sequence_is_overtaken_a_bounded_number_of_times(ahead: list[int]) -> None:
    """Behind k others of its band, with high ones coming for ever, it is served within (k + 1) rounds."""
    queue = WaitingQueue(overtaken_max=OVERTAKEN_MAX)
    for number, priority in enumerate(ahead):
        queue.put(make_sequence(number, priority=priority))
    low = make_sequence(1000, priority=1)
    queue.put(low)
    num_takes = 0
    while low in queue.sequences:
        queue.put(make_sequence(2000 + num_takes, priority=3))
        queue.take()
        num_takes += 1
    num_low_ahead = ahead.count(1)
    assert num_takes <= (num_low_ahead + 1) * (OVERTAKEN_MAX + 1)
