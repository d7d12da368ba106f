"""When a failed call may go to another worker."""

from __future__ import annotations

import pytest

from common.errors import (
    BadModel,
    Cancelled,
    DeadlineExceeded,
    Forbidden,
    Internal,
    InvalidRequest,
    LeptonError,
    NotFound,
    Overloaded,
    Reason,
    Unavailable,
    Unsupported,
)
from router.core.retry import RetryBudget, RetryLimits, decide

LIMITS = RetryLimits(retries_max=2, budget_ratio=0.1, budget_per_s=1.0, budget_burst=5.0)
LOST = Unavailable("gone", reason=Reason.WORKER_LOST)


@pytest.mark.parametrize(
    ("error", "num_sent", "num_retries", "remaining_s", "why"),
    [
        (LOST, 0, 0, 10.0, "retry"),
        (LOST, 0, 1, 10.0, "retry"),
        (LOST, 0, 2, 10.0, "spent"),
        (LOST, 1, 0, 10.0, "sent"),
        (LOST, 0, 0, 0.0, "deadline"),
        (Unavailable("x", reason=Reason.DRAINING), 0, 0, 1.0, "retry"),
        (Overloaded("full"), 0, 0, 1.0, "retry"),
        (Internal("ours"), 0, 0, 1.0, "retry"),
        (InvalidRequest("bad"), 0, 0, 1.0, "final"),
        (NotFound("what"), 0, 0, 1.0, "final"),
        (Unsupported("later"), 0, 0, 1.0, "final"),
        (Forbidden("no"), 0, 0, 1.0, "final"),
        (DeadlineExceeded("late"), 0, 0, 1.0, "final"),
        (Cancelled("away"), 0, 0, 1.0, "final"),
        (BadModel("torn"), 0, 0, 1.0, "final"),
    ],
)
def test_decision(
    error: LeptonError, num_sent: int, num_retries: int, remaining_s: float, why: str
) -> None:
    retry = decide(
        error, num_sent=num_sent, num_retries=num_retries, remaining_s=remaining_s, limits=LIMITS
    )
    assert (retry.allowed, retry.why) == (why == "retry", why)


@pytest.mark.parametrize(
    ("error", "may_wait"),
    [
        (LOST, True),
        (Unavailable("x", reason=Reason.DRAINING), True),
        (Unavailable("x", reason=Reason.STARTING), True),
        (Overloaded("full"), False),
        (Internal("ours"), False),
    ],
)
def test_only_a_worker_that_is_gone_is_worth_waiting_for_another(
    error: LeptonError, may_wait: bool
) -> None:
    assert (
        decide(error, num_sent=0, num_retries=0, remaining_s=1, limits=LIMITS).may_wait is may_wait
    )


def test_budget_starts_full_and_ends() -> None:
    budget = RetryBudget(LIMITS, now=0.0)
    assert [budget.spend(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert repr(budget) == "RetryBudget(0.0 of 5)"


def test_budget_earns_a_tenth_per_call_and_one_per_second() -> None:
    budget = RetryBudget(LIMITS, now=0.0)
    while budget.spend(0.0):
        pass
    for _ in range(10):
        budget.earn(0.0)
    assert [budget.spend(0.0), budget.spend(0.0)] == [True, False]
    assert [budget.spend(1.0), budget.spend(1.0)] == [True, False]


def test_budget_saves_no_more_than_its_burst() -> None:
    budget = RetryBudget(LIMITS, now=0.0)
    for _ in range(1000):
        budget.earn(1e6)
    assert sum(budget.spend(1e6) for _ in range(100)) == 5


def test_clock_that_stands_or_steps_back_earns_nothing() -> None:
    budget = RetryBudget(LIMITS, now=100.0)
    while budget.spend(100.0):
        pass
    assert not budget.spend(50.0)
    assert not budget.spend(100.5)
    assert budget.spend(101.0)
