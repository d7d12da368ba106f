"""What each client got: positions, times, the end. Whatever should never happen is found here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from common.errors import LeptonError, Reason
from loadtest.sim.trace import Ask

__all__ = ["REFUSALS", "Answer", "faults_of"]

REFUSALS = frozenset(
    {
        Reason.QUEUE_FULL, Reason.QUEUE_TIMEOUT, Reason.WOULD_BE_LATE, Reason.CALLER_QUEUE_FULL,
        Reason.NO_WORKER, Reason.STARTING,
    }
)  # fmt: skip
"""Ends of a call that was never accepted."""


@dataclass(slots=True)
class Answer:
    """One request as its client saw it."""

    ask: Ask
    asked_at: float
    spans: list[tuple[int, int]] = field(default_factory=list)
    """(first position, number) of each message, in the order in which they came."""
    first_at: float | None = None
    ended_at: float | None = None
    ended: int = 0
    """How often it ended; once is right."""
    error: LeptonError | None = None
    attempts: int = 0

    @property
    def is_whole(self) -> bool:
        """Ended well, with every position once and in order."""
        return self.error is None and self.ended == 1 and self.tokens == self.ask.answer_tokens

    @property
    def tokens(self) -> int:
        return sum(size for _, size in self.spans)

    def end(self, at: float, error: LeptonError | None) -> None:
        """The call is over."""
        self.ended += 1
        self.ended_at, self.error = at, error


def faults_of(answers: Sequence[Answer]) -> Iterator[str]:
    """What may never happen, one line each: nothing in a correct run."""
    counts: Counter[str] = Counter()
    for answer in answers:
        expected = 0
        for first, size in answer.spans:
            if first > expected:
                counts["gap"] += 1
            elif first < expected:
                counts["repeated"] += 1
            expected = max(expected, first + size)
        if answer.ended != 1:
            counts[f"ended {answer.ended} times"] += 1
        if answer.error is None and answer.tokens != answer.ask.answer_tokens:
            counts["cut short without an error"] += 1
        late = answer.asked_at + answer.ask.deadline_s + 0.5
        if answer.ended_at is not None and answer.ended_at > late:
            counts["ended after its deadline"] += 1
    yield from (f"{number} × {what}" for what, number in sorted(counts.items()))
