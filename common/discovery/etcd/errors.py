"""What can go wrong with etcd. These errors stay inside `common.discovery`: nobody's request waits for etcd.

EtcdError
├── Unreachable    no answer in time; a write may or may not have happened: read before trying again
├── Compacted      the wanted revision is no longer kept
├── LeaseGone      the lease has ended
└── Refused        etcd answered no: permission, space, a malformed request
"""

from __future__ import annotations

from typing import Final

import grpc

__all__ = ["Compacted", "EtcdError", "LeaseGone", "Refused", "Unreachable", "typed"]


class EtcdError(Exception):
    """Base of all; the message is for logs."""


class Unreachable(EtcdError):
    """No answer in time. A write may or may not have happened."""


class Compacted(EtcdError):
    """The wanted revision is no longer kept: list again."""


class LeaseGone(EtcdError):
    """The lease has ended, and the keys on it are removed."""


class Refused(EtcdError):
    """etcd answered no."""


_AWAY: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    # gRPC's own, when a stream breaks under a write.
    grpc.StatusCode.INTERNAL,
)
"""Codes that leave open what happened."""


def typed(error: grpc.aio.AioRpcError) -> EtcdError:
    """The error that a failed call means."""
    code, details = error.code(), error.details() or ""
    message = f"{code.name}: {details}"
    if code is grpc.StatusCode.OUT_OF_RANGE and "compacted" in details:
        return Compacted(message)
    if code is grpc.StatusCode.NOT_FOUND and "lease" in details:
        return LeaseGone(message)
    if code in _AWAY:
        return Unreachable(message)
    return Refused(message)
