"""Which breaks of a stream move it, and how often."""

from __future__ import annotations

import pytest

from common.errors import (
    Cancelled,
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    LeptonError,
    NotFound,
    Overloaded,
    Quarantined,
    Reason,
    Unavailable,
    Unsupported,
)
from common.request.migration import Break, MigrationLimits, Moves, break_of, decide_migration

LIMITS = MigrationLimits(migrations_max=2, hand_overs_max=5, refusals_max=1)


@pytest.mark.parametrize(
    ("error", "in_the_middle", "asked_to_go_on"),
    [
        (Unavailable("x", reason=Reason.WORKER_LOST), Break.LOSS, Break.LOSS),
        (Unavailable("x", reason=Reason.DRAINING), Break.HAND_OVER, Break.REFUSAL),
        (Unavailable("x", reason=Reason.STARTING), Break.HAND_OVER, Break.REFUSAL),
        (Internal("x", reason=Reason.ENGINE_FAILED), Break.LOSS, Break.LOSS),
        (Internal("x"), Break.LOSS, Break.LOSS),
        (Internal("x", reason=Reason.MODEL_OUTPUT_INVALID), Break.FINAL, Break.FINAL),
        (Overloaded("x"), Break.LOSS, Break.REFUSAL),
        (Unsupported("x", reason=Reason.CONTINUATION_UNSUPPORTED), Break.FINAL, Break.REFUSAL),
        (NotFound("x", reason=Reason.REVISION_NOT_FOUND), Break.FINAL, Break.REFUSAL),
        (InvalidRequest("x", reason=Reason.GRAMMAR_TOO_LARGE), Break.FINAL, Break.FINAL),
        (InvalidRequest("x", field="continuation.choices[0]"), Break.FINAL, Break.REFUSAL),
        (DeadlineExceeded("x"), Break.FINAL, Break.FINAL),
        (Cancelled("x"), Break.FINAL, Break.FINAL),
        (Quarantined("x"), Break.FINAL, Break.FINAL),
    ],
)
def test_errors_are_told_apart(
    error: LeptonError, in_the_middle: Break, asked_to_go_on: Break
) -> None:
    assert break_of(error, asked_to_go_on=False) is in_the_middle
    assert break_of(error, asked_to_go_on=True) is asked_to_go_on


@pytest.mark.parametrize(
    ("how", "moves", "remaining_s", "why"),
    [
        (Break.LOSS, Moves(losses=1, hand_overs=5, refusals=1), 1.0, "migrate"),
        (Break.LOSS, Moves(losses=2), 1.0, "spent"),
        (Break.HAND_OVER, Moves(losses=2, hand_overs=4), 1.0, "migrate"),
        (Break.HAND_OVER, Moves(hand_overs=5), 1.0, "spent"),
        (Break.REFUSAL, Moves(losses=2), 1.0, "migrate"),
        (Break.REFUSAL, Moves(refusals=1), 1.0, "spent"),
        (Break.FINAL, Moves(), 1.0, "final"),
        (Break.LOSS, Moves(), 0.0, "deadline"),
    ],
)
def test_each_kind_of_move_has_its_bound(
    how: Break, moves: Moves, remaining_s: float, why: str
) -> None:
    decided = decide_migration(how, moves=moves, remaining_s=remaining_s, limits=LIMITS)
    assert (decided.allowed, decided.why) == (why == "migrate", why)


@pytest.mark.parametrize("how", list(Break))
def test_migration_can_be_switched_off(how: Break) -> None:
    limits = MigrationLimits(migrations_max=0)
    assert decide_migration(how, moves=Moves(), remaining_s=1, limits=limits).why == "off"
