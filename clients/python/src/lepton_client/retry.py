"""When a call may be asked again, and after what wait. Pure."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import Final, final

from lepton_client.errors import LeptonError, Overloaded, Unavailable
from lepton_client.status import is_lost_connection

__all__ = ["ResumePolicy", "RetryBudget", "RetryPolicy", "backoff_s", "is_retryable"]

_FIRST_S: Final = 0.1
_LONGEST_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How a client asks again before the first event of an answer. After it only `resume` does."""

    attempts_max: int = 3
    """In all; 1: never again."""
    budget_per_call: float = 0.1
    """Retries that each call adds to what may be spent."""
    budget_max: float = 10.0
    """Most that is saved up; what a client begins with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePolicy:
    """How a client comes back to a stream that broke after its first event."""

    keep_s: float = 30.0
    """How long the cluster goes on without us, seconds; it has a limit of its own (`limits.resumable_ms_max`)."""
    resumptions_max: int = 5
    """In a row without a new event."""


@final
class RetryBudget:
    """What keeps clients from multiplying the load of a cluster in trouble. Safe between threads."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._saved = policy.budget_max
        self._lock = threading.Lock()

    def count_call(self) -> None:
        """One more call was begun."""
        with self._lock:
            self._saved = min(self._policy.budget_max, self._saved + self._policy.budget_per_call)

    def take(self) -> bool:
        """Whether one more retry may be spent; spends it."""
        with self._lock:
            if self._saved < 1:
                return False
            self._saved -= 1
            return True


def is_retryable(error: LeptonError) -> bool:
    """Whether nothing was computed and asking again may help."""
    if is_lost_connection(error) or isinstance(error, Unavailable):
        return True
    # Without a reason of Lepton's it is gRPC's own refusal of a message that is too large.
    return isinstance(error, Overloaded) and error.reason != "RESOURCE_EXHAUSTED"


def backoff_s(k: int, rng: random.Random, *, at_least_s: float | None = None) -> float:
    """The wait before retry `k` (from 0), seconds: full jitter, but never shorter than the cluster asked for."""
    drawn = rng.uniform(0.0, min(_LONGEST_S, _FIRST_S * 2**k))
    return max(drawn, at_least_s or 0.0)
