"""Compares what clients wrote down with what they should have got. Pure; finds what was planted (tests/unit/chaos).

Events carry `seq`, which must count 0, 1, 2, …; tokens carry no position, theirs is how many came before. A token that
differs from the expected one is judged by what follows: the answer goes on a few tokens earlier (they were repeated),
or later (they are missing), or not at all (it diverged).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from chaos.record import Answer, Choice, Record, answer_of

__all__ = ["Faults", "check", "check_record", "compare_tokens"]

_REACH: Final = 64
"""Most tokens that are looked back or ahead."""
_CONTEXT: Final = 4
"""Tokens in a row that must agree again."""


@dataclass(slots=True, kw_only=True)
class Faults:
    """What went wrong with records, counted. All zero is a clean run."""

    requests: int = 0
    whole: int = 0
    """Ended well: OK, `Finished`."""
    tokens: int = 0
    lost: int = 0
    """Requests without a good end: an error that the scenario does not allow, OK without `Finished`, no end at all."""
    duplicated: int = 0
    """Events or tokens that came again."""
    gapped: int = 0
    """Events or tokens that are missing before one that came."""
    reordered: int = 0
    """Events that came after a later one."""
    diverged: int = 0
    """Requests with other tokens, text, log-probabilities, end or counts than expected."""
    wrong_revision: int = 0
    """Requests answered by a model revision that was not asked for."""
    ghosts: int = 0
    """Events after the last one."""
    late: float = 0.0
    """Longest that a request went on beyond its deadline, seconds."""
    errors: Counter[str] = field(default_factory=Counter)
    """Reasons of ends that were not good, those that the scenario allows included."""
    stories: list[str] = field(default_factory=list)
    """The first few, in words."""

    def tell(self, story: str) -> None:
        """Keeps it when there are few."""
        if len(self.stories) < 20:
            self.stories.append(story)


Expect = Callable[[Record], Answer | None]
"""The answer that a record should have; None: nothing is known about it."""


def check(
    records: Sequence[Record],
    expect: Expect,
    *,
    allowed: Collection[str] = (),
    revisions: Collection[str] = (),
) -> Faults:
    """`allowed` are reasons that no request loses by; `revisions` those that may answer (empty: any)."""
    faults = Faults()
    for record in records:
        check_record(record, expect(record), faults, allowed=allowed, revisions=revisions)
    return faults


def check_record(
    record: Record,
    expected: Answer | None,
    faults: Faults,
    *,
    allowed: Collection[str] = (),
    revisions: Collection[str] = (),
) -> None:
    """Adds what one record shows to `faults`."""
    faults.requests += 1
    faults.tokens += record.num_tokens
    _check_end(record, faults, allowed)
    _check_seqs(record, faults)
    started = record.started
    if started is not None and revisions and started.revision not in revisions:
        faults.wrong_revision += 1
        faults.tell(f"{record.name}: answered by revision {started.revision[:12]}")
    if expected is not None and started is not None:
        _check_answer(record, expected, faults)


def _check_end(record: Record, faults: Faults, allowed: Collection[str]) -> None:
    if record.is_whole:
        faults.whole += 1
    elif record.cancelled_at is None:
        reason = record.reason or ("NEVER_ENDED" if record.ended_at is None else "NOT_FINISHED")
        faults.errors[reason] += 1
        if reason not in allowed:
            faults.lost += 1
            faults.tell(f"{record.name}: {record.code or 'no status'} {reason} {record.message}")
    if record.ended_at is not None:
        faults.late = max(faults.late, record.ended_at - record.sent_at - record.deadline_s)


def _check_seqs(record: Record, faults: Faults) -> None:
    seen: set[int] = set()
    wanted = 0
    has_finished = False
    for one in record.received:
        seq = one.event.seq
        faults.ghosts += has_finished
        has_finished = has_finished or one.event.HasField("finished")
        if seq in seen:
            faults.duplicated += 1
            faults.tell(f"{record.name}: seq {seq} came again")
        elif seq < wanted:  # it was counted as missing before
            faults.reordered += 1
            faults.gapped -= 1
            faults.tell(f"{record.name}: seq {seq} came after {wanted - 1}")
        elif seq > wanted:
            faults.gapped += seq - wanted
            faults.tell(f"{record.name}: seq {wanted} to {seq - 1} are missing")
        seen.add(seq)
        wanted = max(wanted, seq + 1)


def _check_answer(record: Record, expected: Answer, faults: Faults) -> None:
    got = answer_of(record)
    differs = False
    for index, (mine, wanted) in enumerate(zip(got.choices, expected.choices, strict=True)):
        duplicated, gapped, diverged_at = compare_tokens(mine.token_ids, wanted.token_ids)
        faults.duplicated += duplicated
        faults.gapped += gapped
        if duplicated or gapped or diverged_at is not None:
            faults.tell(
                f"{record.name}: choice {index} repeats {duplicated}, misses {gapped} tokens"
                + (f", differs from token {diverged_at} on" if diverged_at is not None else "")
            )
        clean = not duplicated and not gapped
        differs |= diverged_at is not None or (clean and not _agrees(mine, wanted, record.is_whole))
    if record.is_whole and not differs:
        counts = (got.prompt_tokens, got.completion_tokens)
        differs = counts != (expected.prompt_tokens, expected.completion_tokens)
        if differs:
            faults.tell(f"{record.name}: usage {counts}, not as expected {expected}")
    faults.diverged += differs


def _agrees(mine: Choice, wanted: Choice, is_whole: bool) -> bool:  # noqa: FBT001 - private
    """Whether text, log-probabilities and end are those of the expected answer, as far as they came."""
    if is_whole:
        return mine == wanted
    return (
        wanted.text.startswith(mine.text)
        and wanted.logprobs[: len(mine.logprobs)] == mine.logprobs
        and mine.end in (None, wanted.end)
    )


def compare_tokens(got: Sequence[int], expected: Sequence[int]) -> tuple[int, int, int | None]:
    """(tokens that came again, tokens that are missing before others, where it diverged for good or None)."""
    duplicated = gapped = 0
    at = position = 0  # in `got`, in `expected`
    while at < len(got):
        if position < len(expected) and got[at] == expected[position]:
            at += 1
            position += 1
            continue
        context = got[at : at + _CONTEXT]
        back = _find(context, expected, range(position - 1, max(-1, position - 1 - _REACH), -1))
        ahead = _find(context, expected, range(position + 1, min(len(expected), position + _REACH)))
        if back is not None:
            duplicated += position - back
            position = back
        elif ahead is not None:
            gapped += ahead - position
            position = ahead
        else:
            return duplicated, gapped, at
    return duplicated, gapped, None


def _find(context: Sequence[int], expected: Sequence[int], places: range) -> int | None:
    """The first place where `context` stands in `expected`."""
    wanted = tuple(context)
    for place in places:
        if tuple(expected[place : place + len(wanted)]) == wanted:
            return place
    return None
