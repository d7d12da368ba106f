"""Every way in which admission says no, in words."""

from __future__ import annotations

from typing import Final

from common.errors import DeadlineExceeded, LeptonError, Overloaded, Reason, Unavailable

__all__ = [
    "caller_full",
    "deadline_passed",
    "draining",
    "in_flight_full",
    "no_worker",
    "out_of_patience",
    "queue_full",
    "would_be_late",
]

RETRY_AFTER_S: Final = 1.0
"""Hint where nothing is known: about the time in which load streams and registry catch up."""
_SHORTEST_S: Final = 0.05
_LONGEST_S: Final = 60.0


def draining() -> LeptonError:
    return Unavailable(
        "this router is shutting down; ask another one",
        reason=Reason.DRAINING,
        retry_after_s=RETRY_AFTER_S,
    )


def in_flight_full(in_flight: int) -> LeptonError:
    return Overloaded(
        f"{in_flight} calls are in flight, the most this router takes "
        "(setting router.in_flight_max)",
        retry_after_s=RETRY_AFTER_S,
    )


def queue_full(num_waiting: int, num_bytes: int, drain_s: float | None) -> LeptonError:
    """`drain_s` is how long those that wait will take."""
    # Half of it: when a single place is free, all who were refused would come back for it.
    return Overloaded(
        f"{num_waiting} calls with {num_bytes} bytes wait for a worker of this model, the most that may "
        "(settings router.queue_max, router.queue_bytes_max)",
        retry_after_s=_hint(None if drain_s is None else drain_s / 2),
    )


def caller_full(num_waiting: int, drain_s: float | None) -> LeptonError:
    return Overloaded(
        f"{num_waiting} calls of this caller wait already, the most that may (setting router.queue_per_caller_max)",
        reason=Reason.CALLER_QUEUE_FULL,
        retry_after_s=_hint(None if drain_s is None else drain_s / 2),
    )


def would_be_late(wait_s: float | None, allowed_s: float) -> LeptonError:
    """`wait_s` is the predicted wait, None where it was not predicted but has been too long already."""
    predicted = "" if wait_s is None else f", and {wait_s:.2f} s are ahead of it"
    return Overloaded(
        f"this call may wait {max(0.0, allowed_s):.2f} s for a worker (its deadline, setting "
        f"router.queue_answers_max or router.queue_s_max){predicted}",
        reason=Reason.WOULD_BE_LATE,
        retry_after_s=_hint(None if wait_s is None else wait_s - allowed_s),
    )


def out_of_patience(wait_s: float | None, allowed_s: float) -> LeptonError:
    """As `would_be_late`, when the call's own `queue_timeout_ms` is the bound."""
    return Overloaded(
        f"no worker has a free row within the {allowed_s * 1000:.0f} ms of service_level.queue_timeout_ms",
        reason=Reason.QUEUE_TIMEOUT,
        retry_after_s=_hint(None if wait_s is None else wait_s - allowed_s),
    )


def deadline_passed() -> LeptonError:
    return DeadlineExceeded("the deadline passed while the call waited for a free worker")


def no_worker(waited_s: float) -> LeptonError:
    return Unavailable(
        f"no worker of this model has become ready within {waited_s:.1f} s",
        retry_after_s=RETRY_AFTER_S,
    )


def _hint(seconds: float | None) -> float:
    return RETRY_AFTER_S if seconds is None else min(_LONGEST_S, max(_SHORTEST_S, seconds))
