"""Who waits, who is next, who is refused.

Priority bands, first come first served inside a band. Higher bands go first, but a band that is not empty is passed
over at most `overtaken_max` times in a row, then it is served once: nobody starves. Sequences that another worker began
go before all bands: their readers have waited once, and there are no more of them than a lost worker had.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from common.errors import Overloaded, Reason
from worker.engine.config import EngineConfig
from worker.engine.sequence import Sequence
from worker.engine.speed import Speed

__all__ = ["Waiting", "WaitingQueue", "check_room", "retry_after_s"]

_CONTINUED: Final = math.inf
"""The band of sequences that another worker began."""
_RETRY_AFTER_S_MIN: Final = 0.1
_RETRY_AFTER_S_UNKNOWN: Final = 1.0
"""Retry hint while no speed has been measured."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """How much waits."""

    sequences: int = 0
    tokens: int = 0
    """Prompt tokens."""

    def __add__(self, other: Waiting) -> Waiting:
        return Waiting(self.sequences + other.sequences, self.tokens + other.tokens)


def check_room(waiting: Waiting, added: Waiting, *, config: EngineConfig, speed: Speed) -> None:
    """Returns when `added` may wait, too; raises `Overloaded(QUEUE_FULL)` with a retry hint otherwise.

    Where nothing waits any single request may: a bound smaller than one request would refuse it for ever.
    """
    if not waiting.sequences:
        return
    total = waiting + added
    excess = Waiting(
        max(0, total.sequences - config.waiting_sequences_max),
        max(0, total.tokens - config.waiting_tokens_max),
    )
    if not excess.sequences and not excess.tokens:
        return
    hint_s = retry_after_s(excess, config=config, speed=speed)
    raise Overloaded(
        f"the waiting queue is full ({waiting.sequences} sequences with {waiting.tokens} prompt tokens wait); "
        f"try again in {hint_s:.1f} s or elsewhere",
        reason=Reason.QUEUE_FULL,
        retry_after_s=hint_s,
    )


def retry_after_s(excess: Waiting, *, config: EngineConfig, speed: Speed) -> float:
    """Seconds until `excess` has left the queue, as fast as sequences and tokens left it lately, within bounds."""
    estimates = [_RETRY_AFTER_S_MIN]
    for amount, per_s in (
        (excess.sequences, speed.starts_per_s),
        (excess.tokens, speed.prefill_tokens_per_s),
    ):
        if amount:
            estimates.append(amount / per_s if per_s else _RETRY_AFTER_S_UNKNOWN)
    return min(max(estimates), config.retry_after_s_max)


@dataclass(slots=True)
class _Band:
    sequences: deque[Sequence] = field(default_factory=deque)
    num_passed: int = 0
    """Takes from higher bands since this one was last served or last empty."""


class WaitingQueue:
    """Sequences that hold nothing yet. Engine thread only; `check_room` bounds what gets here."""

    def __init__(self, *, overtaken_max: int) -> None:
        self._overtaken_max = overtaken_max
        self._bands: dict[float, _Band] = {}
        """By priority; only bands with sequences."""
        self._waiting = Waiting()

    def __len__(self) -> int:
        return self._waiting.sequences

    def __repr__(self) -> str:
        bands = {priority: len(band.sequences) for priority, band in self._bands.items()}
        return f"<WaitingQueue {bands}>"

    @property
    def waiting(self) -> Waiting:
        return self._waiting

    @property
    def sequences(self) -> tuple[Sequence, ...]:
        """Everybody, in no useful order."""
        return tuple(s for band in self._bands.values() for s in band.sequences)

    def put(self, sequence: Sequence) -> None:
        """Adds at the end of its band."""
        self._bands.setdefault(_band_of(sequence), _Band()).sequences.append(sequence)
        self._waiting += Waiting(1, sequence.num_prefill_tokens)

    def put_back(self, sequence: Sequence) -> None:
        """Adds one that gave up its row, before all others of its band: it has waited once."""
        self._bands.setdefault(_band_of(sequence), _Band()).sequences.appendleft(sequence)
        self._waiting += Waiting(1, sequence.num_prefill_tokens)

    def peek(self) -> Sequence | None:
        """Who is next; changes nothing."""
        return self._bands[self._next_priority()].sequences[0] if self._bands else None

    def take(self) -> Sequence:
        """Removes and returns who is next. Raises RuntimeError when nobody waits."""
        if not self._bands:
            raise RuntimeError("nobody waits")
        priority = self._next_priority()
        band = self._bands[priority]
        band.num_passed = 0
        for other, lower in self._bands.items():
            if other < priority < _CONTINUED:
                lower.num_passed += 1
        sequence = band.sequences.popleft()
        self._left(sequence)
        return sequence

    def remove(self, sequence: Sequence) -> None:
        """Removes one that waits, wherever it stands. Raises RuntimeError when it does not wait."""
        band = self._bands.get(_band_of(sequence))
        if band is None or sequence not in band.sequences:
            raise RuntimeError(f"sequence {sequence.id} does not wait")
        band.sequences.remove(sequence)
        self._left(sequence)

    def check_integrity(self) -> None:
        """Raises RuntimeError when counts and contents disagree."""
        found = Waiting(len(self.sequences), sum(s.num_prefill_tokens for s in self.sequences))
        if found != self._waiting:
            raise RuntimeError(f"{found} found, {self._waiting} counted")
        if not all(band.sequences for band in self._bands.values()):
            raise RuntimeError("an empty band was kept")

    def _next_priority(self) -> float:
        """The lowest band that was passed over often enough, else the highest band.

        The lowest, so that a band that is due cannot be passed over once more by another one that is due.
        """
        if _CONTINUED in self._bands:
            return _CONTINUED
        due = [p for p, band in self._bands.items() if band.num_passed >= self._overtaken_max]
        return min(due) if due else max(self._bands)

    def _left(self, sequence: Sequence) -> None:
        self._waiting = Waiting(
            self._waiting.sequences - 1, self._waiting.tokens - sequence.num_prefill_tokens
        )
        if not self._bands[_band_of(sequence)].sequences:
            del self._bands[_band_of(sequence)]


def _band_of(sequence: Sequence) -> float:
    return _CONTINUED if sequence.is_continued else sequence.priority
