"""May a failed call be sent to another worker? Pure; who sends is the dispatcher.

A retry must not multiply output (nothing may have reached the client), must have a chance (the error is of the
worker or of the moment, not of the request), and must not multiply load (a bound per call, a budget over all).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from common.errors import LeptonError, Reason, Unavailable

__all__ = ["Retry", "RetryBudget", "RetryLimits", "decide"]


_ONE: Final = 1.0 - 1e-9
"""Ten tenths are one retry, whatever floats say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryLimits:
    """How much retrying is allowed."""

    retries_max: int = 2
    """Per call."""
    budget_ratio: float = 0.1
    """Retries earned by each call."""
    budget_per_s: float = 1.0
    """Retries earned by each second, so that a quiet router can retry too."""
    budget_burst: float = 20.0
    """Most retries saved up; also what a new router starts with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """What to do after an error."""

    allowed: bool
    why: str
    """One word for traces: "sent", "final", "spent", "deadline", or "retry"."""
    may_wait: bool = False
    """Whether it is worth waiting for a worker when no other one is ready: the first one is gone, not full."""


@final
class RetryBudget:
    """A token bucket over all calls of a router.

    Retries within any window of t seconds and c calls stay under `burst + ratio * c + per_s * t`.
    """

    def __init__(self, limits: RetryLimits, *, now: float) -> None:
        self._limits = limits
        self._tokens = limits.budget_burst
        self._at = now

    def __repr__(self) -> str:
        return f"RetryBudget({self._tokens:.1f} of {self._limits.budget_burst:g})"

    def earn(self, now: float) -> None:
        """A call (not a retry) begins."""
        self._refill(now)
        self._tokens = min(self._limits.budget_burst, self._tokens + self._limits.budget_ratio)

    def spend(self, now: float) -> bool:
        """Takes one retry; False when none is left."""
        self._refill(now)
        if self._tokens < _ONE:
            return False
        self._tokens = max(0.0, self._tokens - 1.0)
        return True

    def _refill(self, now: float) -> None:
        earned = max(0.0, now - self._at) * self._limits.budget_per_s
        self._at = max(now, self._at)
        self._tokens = min(self._limits.budget_burst, self._tokens + earned)


def decide(
    error: LeptonError,
    *,
    num_sent: int,
    num_retries: int,
    remaining_s: float,
    limits: RetryLimits,
) -> Retry:
    """Whether the call may go to another endpoint, the budget aside.

    `num_sent` counts messages handed to the client's transport, `num_retries` those already made for this call,
    `remaining_s` is the time left until the call's deadline.
    """
    if num_sent:
        return Retry(allowed=False, why="sent")
    if not error.retryable:
        return Retry(allowed=False, why="final")
    if num_retries >= limits.retries_max:
        return Retry(allowed=False, why="spent")
    if remaining_s <= 0:
        return Retry(allowed=False, why="deadline")
    gone = isinstance(error, Unavailable) and error.reason in {
        Reason.WORKER_LOST,
        Reason.DRAINING,
        Reason.STARTING,
    }
    return Retry(allowed=True, why="retry", may_wait=gone)
