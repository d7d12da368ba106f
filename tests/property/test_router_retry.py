"""However calls and failures come, retries stay within the budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.core.retry import RetryBudget, RetryLimits

events = st.lists(
    st.tuples(st.floats(0, 3, allow_nan=False), st.sampled_from(["call", "retry", "retry"])),
    max_size=200,
)


@given(
    history=events,
    ratio=st.floats(0, 1),
    per_s=st.floats(0, 5),
    burst=st.floats(0, 30),
)
def test_retries_are_bounded_in_every_window(
    history: list[tuple[float, str]], ratio: float, per_s: float, burst: float
) -> None:
    limits = RetryLimits(budget_ratio=ratio, budget_per_s=per_s, budget_burst=burst)
    budget = RetryBudget(limits, now=0.0)
    now = 0.0
    done: list[tuple[float, bool, bool]] = []
    for gap, what in history:
        now += gap
        if what == "call":
            budget.earn(now)
            done.append((now, True, False))
        else:
            done.append((now, False, budget.spend(now)))
    for start in range(0, len(done), 7):
        window = done[start:]
        elapsed = window[-1][0] - window[0][0]
        num_calls = sum(is_call for _, is_call, _ in window)
        num_retries = sum(retried for _, _, retried in window)
        assert num_retries <= burst + ratio * num_calls + per_s * elapsed + 1e-6


@given(failures=st.integers(0, 2000))
def test_amplification_stays_under_a_tenth_beyond_the_burst(failures: int) -> None:
    """Every call fails and wants a retry, all at one moment."""
    limits = RetryLimits()
    budget = RetryBudget(limits, now=0.0)
    retries = 0
    for _ in range(failures):
        budget.earn(0.0)
        retries += budget.spend(0.0)
    assert retries <= limits.budget_burst + 0.1 * failures + 1
