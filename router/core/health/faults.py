"""Whose fault was it? Only what a worker did wrong counts against it."""

from __future__ import annotations

from common.errors import Internal, Reason, Unavailable

__all__ = ["is_fault"]


def is_fault(error: BaseException | None) -> bool | None:
    """How a call on a worker ended, for the worker: False well, True by its fault, None says nothing about it.

    Refused requests, cancelled calls, missed deadlines and full queues say nothing: otherwise callers could have
    workers set aside, and a full worker would be taken for a sick one.
    """
    if error is None:
        return False
    if isinstance(error, Internal):
        return True
    lost = isinstance(error, Unavailable) and error.reason is Reason.WORKER_LOST
    return True if lost else None
